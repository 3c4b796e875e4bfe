import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { silentLogger } from '../../src/kit/logger.js';
import { Secret } from '../../src/kit/secret.js';
import { createClient, openChannel } from '../../src/rpc/client.js';
import { IdentityHolder } from '../../src/rpc/identity.js';
import { implement, RpcServer } from '../../src/rpc/server.js';
import { createAuthority } from './certificates.js';
import { notes, plainHandlers, textsOf } from './rpc.js';
import { ShapesService } from './shapes.js';

/** A whole life on all three listeners, with calls of every shape and every end; then nothing must be left to wait for. */
const directory = await mkdtemp(join(tmpdir(), 'muster-life-'));
const authority = await createAuthority();
const center = new IdentityHolder(await authority.issue({ principal: { kind: 'center', name: 'c' } }));
const own = new IdentityHolder(await authority.issue({ principal: { kind: 'operator', name: 'ann' } }));
const principal = { kind: 'operator', name: 'me' } as const;
const server = new RpcServer({
  services: [implement(ShapesService, plainHandlers)],
  authorize: () => undefined,
  logger: silentLogger,
  http: () => (_, response) => response.end('ok'),
});
const unix = await server.listen({ kind: 'unix', path: join(directory, 's'), principal });
const tls = await server.listen({ kind: 'tls', host: '127.0.0.1', port: 0, identity: center });
const loopback = await server.listen({ kind: 'loopback', port: 0, token: new Secret('t'), principal });

const channels = [
  openChannel({ address: unix.address }),
  openChannel({ address: tls.address, tls: { identity: own } }),
  openChannel({ address: loopback.address, headers: { authorization: 'Bearer t' } }),
];
for (const channel of channels) {
  const client = createClient(ShapesService, channel);
  await client.echo({ text: 'a' });
  await client.collect(notes('a', 'b'));
  await textsOf(client.count({ text: '50' }));
  for await (const { text } of client.count({ text: '1000000' })) if (text === '3') break;
  const chat = client.chat();
  await chat.send({ text: 'a' });
  await client.echo({ text: 'x'.repeat(5_000_000) }).catch(() => undefined);
}
own.renew(await authority.issue({ principal: { kind: 'operator', name: 'ann' } }));
center.renew(await authority.issue({ principal: { kind: 'center', name: 'c' } }));
await Promise.all(channels.map((channel) => createClient(ShapesService, channel).echo({ text: 'after' })));
await fetch(`http://${loopback.address}/`, { headers: { authorization: 'Bearer t' } }).then((answer) => answer.text());

for (const channel of channels) channel.close();
await server.drain(5000);
const calls = channels.reduce((sum, channel) => sum + channel.activeCalls, server.activeCalls);
const files = await readdir(directory);
await rm(directory, { recursive: true, force: true });
console.log(`left: ${calls} calls, ${own.listeners + center.listeners + files.length} listeners or files`);
