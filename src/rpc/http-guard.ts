import type { IncomingMessage, ServerResponse } from 'node:http';
import { MusterError, type Code } from '../kit/errors.js';
import type { Logger } from '../kit/logger.js';
import type { Principal } from './principal.js';
import { asMusterError } from './status.js';

/** Serves one HTTP request, as node:http hands it over. */
export type HttpHandler = (request: IncomingMessage, response: ServerResponse) => unknown;

/** Makes the handler for one principal: HTTP knows its caller exactly as gRPC does. */
export type HttpHandlerFor = (principal: Principal) => HttpHandler;

const LOCAL_HOST = /^(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?$/i;

/** HTTP statuses of the codes; the rest are 500. */
const HTTP_STATUS: Partial<Record<Code, number>> = {
  invalid: 400,
  unauthenticated: 401,
  denied: 403,
  not_found: 404,
  exists: 409,
  conflict: 409,
  precondition: 412,
  exhausted: 429,
  cancelled: 499,
  unimplemented: 501,
  unavailable: 503,
  deadline: 504,
};

/** The HTTP status that stands for a code. */
export function httpStatusOf(code: Code): number {
  return HTTP_STATUS[code] ?? 500;
}

/**
 * Refuses what a web page could send through a browser of this machine: a Host that is not this machine's own name (DNS
 * rebinding), an Origin that is not exactly that Host, or a request the browser itself marks as cross-site.
 * @throws denied
 */
export function requireLocalOrigin(headers: { readonly [name: string]: string | readonly string[] | undefined }): void {
  const { host = '', origin } = headers;
  if (typeof host !== 'string' || !LOCAL_HOST.test(host)) {
    throw new MusterError('denied', 'the Host header must be localhost, 127.0.0.1 or [::1]', {
      reason: 'FOREIGN_HOST',
    });
  }
  const foreign =
    origin !== undefined && (typeof origin !== 'string' || origin.toLowerCase() !== `http://${host.toLowerCase()}`);
  if (foreign || headers['sec-fetch-site'] === 'cross-site') {
    throw new MusterError('denied', 'requests from other web sites are not accepted', { reason: 'FOREIGN_ORIGIN' });
  }
}

/** Answers with the failure as JSON: `{ "code": ..., "message": ..., "reason": ... }`. */
export function answerFailure(response: ServerResponse, failure: MusterError): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const status = httpStatusOf(failure.code);
  response.writeHead(status, {
    'content-type': 'application/json; charset=utf-8',
    connection: 'close',
    ...(status === 401 ? { 'www-authenticate': 'Bearer' } : {}),
  });
  const { code, message, reason } = failure;
  response.end(`${JSON.stringify({ code, message, ...(reason === undefined ? {} : { reason }) })}\n`);
}

/** The guarded handler of a local listener: foreign Host or Origin, then identity, then `handlerFor` that identity. */
export function guarded(
  identify: (authorization: string | undefined) => Principal,
  handlerFor: HttpHandlerFor | undefined,
  logger: Logger,
): HttpHandler {
  return async (request, response) => {
    try {
      requireLocalOrigin(request.headers);
      const principal = identify(request.headers.authorization);
      if (!handlerFor) throw new MusterError('not_found', 'only gRPC is served here');
      await handlerFor(principal)(request, response);
    } catch (error) {
      if (!(error instanceof MusterError)) logger.error('HTTP request failed', { error });
      const failure =
        error instanceof MusterError ? error : new MusterError('internal', 'an internal error; see the log');
      answerFailure(response, asMusterError(failure));
    }
  };
}
