import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

/** The gRPC side: greeter.v1.Greeter and grpc.health.v1.Health. */

const own = fileURLToPath(new URL('./greeter.proto', import.meta.url));
/** The health protocol's own contract comes with muster. */
const contracts = join(dirname(fileURLToPath(import.meta.resolve('muster/package.json'))), 'proto');

const definitions = loadSync([own, 'grpc/health/v1/health.proto'], {
  includeDirs: [dirname(own), contracts],
  enums: String,
  defaults: true,
});

function greet(greeting, log) {
  return (call, answer) => {
    const text = greeting.of(call.request.name);
    log(`gRPC Greet ${JSON.stringify(call.request.name)} OK`);
    answer(null, { text });
  };
}

function check(call, answer) {
  const known = ['', 'greeter.v1.Greeter'].includes(call.request.service);
  if (known) answer(null, { status: 'SERVING' });
  else answer({ code: grpc.status.NOT_FOUND, details: `no service "${call.request.service}" here` });
}

function watch(call) {
  call.write({ status: 'SERVING' });
}

/** Resolves when it listens. */
export async function serveRpc(port, greeting, log) {
  const server = new grpc.Server();
  server.addService(definitions['greeter.v1.Greeter'], { Greet: greet(greeting, log) });
  server.addService(definitions['grpc.health.v1.Health'], { Check: check, Watch: watch });
  await new Promise((resolve, reject) => {
    server.bindAsync(`127.0.0.1:${port}`, grpc.ServerCredentials.createInsecure(), (error) => {
      if (error) reject(error);
      else resolve();
    });
  });
  return server;
}
