import type { IncomingMessage, ServerResponse } from 'node:http';
import { MusterError } from '../../kit/errors.js';
import type { Action, InstanceReport } from '../../model/instance.js';
import { httpStatusOf, type HttpHandlerFor } from '../../rpc/http-guard.js';
import type { Principal } from '../../rpc/principal.js';
import type { LocalApi } from './api.js';
import { surroundingsOf, type FactsSource } from './facts.js';
import { METRICS_CONTENT_TYPE, metricsPage } from './metrics.js';
import { instanceJson } from './wire.js';

export interface LocalHttpOptions {
  readonly api: LocalApi;
  readonly facts: FactsSource;
}

interface Reply {
  readonly status: number;
  readonly body: string;
  readonly contentType: string;
  readonly headers?: Readonly<Record<string, string>>;
}

interface Route {
  readonly method: 'GET' | 'POST';
  readonly path: RegExp;
  answer(principal: Principal, parts: readonly string[]): Promise<Reply> | Reply;
}

const JSON_TYPE = 'application/json; charset=utf-8';
const PATHS =
  'GET /services, GET /services/NAME, POST /services/NAME/start, POST /services/NAME/stop, POST /services/NAME/restart, GET /healthz, GET /metrics';

const ACTION_OF_PATH: Readonly<Record<string, Action>> = { start: 'START', stop: 'STOP', restart: 'RESTART' };

/**
 * The agent over HTTP: the same decisions as over gRPC, JSON out. Only POST changes anything. Who is calling, and that no web page
 * is, has been decided before a request comes here.
 */
export function localHttp(options: LocalHttpOptions): HttpHandlerFor {
  const routes = routesOf(options);
  return (principal) => async (request, response) => {
    request.resume();
    let reply: Reply;
    try {
      reply = await dispatch(routes, principal, request);
    } catch (error) {
      if (!(error instanceof MusterError)) throw error;
      reply = failureReply(error);
    }
    write(request, response, reply);
  };
}

function routesOf({ api, facts }: LocalHttpOptions): readonly Route[] {
  const shown = (report: InstanceReport): unknown => instanceJson(report, surroundingsOf(facts, report));
  return [
    { method: 'GET', path: /^\/healthz$/, answer: () => text('ok\n', 'text/plain; charset=utf-8') },
    {
      method: 'GET',
      path: /^\/metrics$/,
      answer: (principal) => text(metricsPage(facts.agent(), api.list(principal).instances), METRICS_CONTENT_TYPE),
    },
    {
      method: 'GET',
      path: /^\/services\/?$/,
      answer: (principal) => {
        const { instances, broken } = api.list(principal);
        return json({ instances: instances.map(shown), broken });
      },
    },
    {
      method: 'GET',
      path: /^\/services\/([^/]+)\/?$/,
      answer: (principal, [name = '']) => json(shown(api.get(principal, name))),
    },
    {
      method: 'POST',
      path: /^\/services\/([^/]+)\/(start|stop|restart)\/?$/,
      answer: async (principal, [name = '', verb = '']) => {
        const action = ACTION_OF_PATH[verb];
        if (!action) throw new MusterError('internal', `no action for ${verb}`);
        return json(shown(await api.act(principal, action, name)));
      },
    },
  ];
}

async function dispatch(routes: readonly Route[], principal: Principal, request: IncomingMessage): Promise<Reply> {
  const path = pathOf(request.url ?? '/');
  const method = request.method === 'HEAD' ? 'GET' : request.method;
  const matching = routes.filter((route) => route.path.test(path));
  const route = matching.find((one) => one.method === method);
  if (route) return route.answer(principal, (route.path.exec(path) ?? []).slice(1));
  if (matching.length > 0) return notAllowed(matching, path);
  throw new MusterError('not_found', `there is nothing at ${path}. There are: ${PATHS}`, { reason: 'NO_SUCH_PATH' });
}

/** The decoded path without its query. @throws invalid */
function pathOf(url: string): string {
  try {
    return decodeURIComponent(url.split('?', 1)[0] ?? '/');
  } catch (error) {
    throw new MusterError('invalid', 'the path is not properly percent-encoded', { cause: error });
  }
}

function notAllowed(matching: readonly Route[], path: string): Reply {
  const methods = matching.map(({ method }) => (method === 'GET' ? 'GET, HEAD' : method)).join(', ');
  const message = `use ${methods} for ${path}: only POST changes anything`;
  const reply = failureReply(new MusterError('unimplemented', message, { reason: 'METHOD_NOT_ALLOWED' }));
  return { ...reply, status: 405, headers: { allow: methods } };
}

function failureReply({ code, reason, message, fields }: MusterError): Reply {
  return json({ code, reason: reason ?? '', message, fields }, httpStatusOf(code));
}

function json(value: unknown, status = 200): Reply {
  return { status, body: `${JSON.stringify(value)}\n`, contentType: JSON_TYPE };
}

function text(body: string, contentType: string): Reply {
  return { status: 200, body, contentType };
}

function write(
  request: IncomingMessage,
  response: ServerResponse,
  { status, body, contentType, headers }: Reply,
): void {
  response.writeHead(status, {
    'content-type': contentType,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    ...headers,
  });
  response.end(request.method === 'HEAD' ? undefined : body);
}
