/** The sample service: greets over HTTP and gRPC. `node server.mjs` runs it, under an agent or alone. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import { follow, Greeting } from './greeting.mjs';
import { serveRpc } from './rpc.mjs';

const HTTP_PORT = Number(process.env.HTTP_PORT ?? 8090);
const GRPC_PORT = Number(process.env.GRPC_PORT ?? 8091);

const greeting = new Greeting();

/** One line per event; names come as JSON, so that none can fake a line. */
function log(text) {
  console.log(`${new Date().toISOString()} ${text}`);
}

function respond(request, response) {
  const url = new URL(request.url, 'http://localhost');
  const answer = (status, text) => {
    if (url.pathname !== '/health') log(`${request.method} ${JSON.stringify(request.url)} ${status}`);
    response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8' }).end(`${text}\n`);
  };
  if (request.method !== 'GET') answer(405, 'only GET here');
  else if (url.pathname === '/health') answer(200, 'ok');
  else if (url.pathname === '/') answer(200, greeting.of(url.searchParams.get('name') ?? ''));
  else answer(404, 'try /?name=you');
}

async function serveHttp() {
  const server = createServer((request, response) => {
    try {
      respond(request, response);
    } catch {
      response.writeHead(400).end();
    }
  });
  server.listen(HTTP_PORT, '127.0.0.1');
  await once(server, 'listening');
  return server;
}

const unfollow = await follow(greeting, log);
const [http, rpc] = await Promise.all([serveHttp(), serveRpc(GRPC_PORT, greeting, log)]);
log(`greeter listens on http://127.0.0.1:${http.address().port} and gRPC 127.0.0.1:${GRPC_PORT}`);

/** Answers what is under way, hands over the last counts, and ends. */
async function stop(signal) {
  log(`ending on ${signal}`);
  rpc.forceShutdown();
  http.close();
  http.closeIdleConnections();
  await unfollow();
  process.exit(0);
}

process.once('SIGTERM', stop);
process.once('SIGINT', stop);
