/**
 * The limit that bench/fleet.ts compares with: a grpc-js server that only accepts mTLS bidirectional streams and reads what comes, with as many clients,
 * each with its own TLS connection and a 200-byte message every interval. Server and clients are separate processes.
 * Usage: fleet-bare.ts server CERTIFICATES_JSON | fleet-bare.ts clients CERTIFICATES_JSON ADDRESS COUNT INTERVAL_MS
 */
import { readFileSync } from 'node:fs';
import { Client, credentials, Server, ServerCredentials, type ServerDuplexStream } from '@grpc/grpc-js';
import { sleep, systemClock } from '../src/kit/clock.js';
import { systemRandom } from '../src/kit/random.js';

interface Certificates {
  readonly ca: string;
  readonly certificate: string;
  readonly key: string;
  readonly serverName: string;
}

const [role = '', file = '', address = '', countText = '0', intervalText = '10000'] = process.argv.slice(2);
const certificates = JSON.parse(readFileSync(file, 'utf8')) as Certificates;
const identity = (bytes: Buffer): Buffer => bytes;
const PATH = '/bare.Bare/Stream';
const BEAT = Buffer.alloc(200, 1);

function serve(): void {
  const server = new Server();
  const method = {
    path: PATH,
    requestStream: true,
    responseStream: true,
    requestSerialize: identity,
    requestDeserialize: identity,
    responseSerialize: identity,
    responseDeserialize: identity,
  } as const;
  server.addService(
    { stream: method },
    {
      stream: (call: ServerDuplexStream<Buffer, Buffer>) => {
        call.on('data', () => undefined).on('error', () => undefined);
        call.write(BEAT);
      },
    },
  );
  const tls = ServerCredentials.createSsl(
    Buffer.from(certificates.ca),
    [{ private_key: Buffer.from(certificates.key), cert_chain: Buffer.from(certificates.certificate) }],
    true,
  );
  server.bindAsync('127.0.0.1:0', tls, (error, port) => {
    if (error) throw error;
    process.stdout.write(`${JSON.stringify({ port })}\n`);
  });
}

async function connectAll(): Promise<void> {
  const tls = credentials.createSsl(
    Buffer.from(certificates.ca),
    Buffer.from(certificates.key),
    Buffer.from(certificates.certificate),
  );
  const state = { live: 0 };
  const intervalMs = Number(intervalText);
  for (let index = 0; index < Number(countText); index += 1) {
    const client = new Client(address, tls, {
      'grpc.ssl_target_name_override': certificates.serverName,
      // A connection for each client, as agents on machines of their own have.
      'grpc.use_local_subchannel_pool': 1,
    });
    const stream = client.makeBidiStreamRequest(PATH, identity, identity);
    stream.once('data', () => {
      state.live += 1;
    });
    stream.on('error', () => undefined);
    const beat = (): void => {
      stream.write(BEAT);
      systemClock.after(intervalMs, beat);
    };
    systemClock.after(systemRandom.next() * intervalMs, beat);
    await new Promise((resolve) => setImmediate(resolve));
  }
  for (;;) {
    await sleep(systemClock, 500);
    process.stdout.write(`${JSON.stringify(state)}\n`);
  }
}

if (role === 'server') serve();
else await connectAll();
