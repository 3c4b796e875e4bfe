import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { must, system } from '../../support/debian.js';
import { muster, Site, type SiteQueue, type TestAgent } from '../../support/site.js';
import { waitFor } from '../../support/waiting.js';
import { running } from './observe.js';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const BUF = join(ROOT, 'node_modules', '.bin', 'buf');

interface QueueJson {
  readonly name: string;
  readonly address?: string;
  readonly lastSeen?: string;
}

describe('a queue of a site, as processes', () => {
  let site: Site;
  let agent: TestAgent;
  let queue: SiteQueue;
  let scratch: string;

  /** A call of the queue as an operator on its machine. */
  const operate = async (method: string, request: unknown): Promise<unknown> => {
    const called = await muster(['call', '--agent-socket', queue.socket, method, JSON.stringify(request)]);
    if (called.status !== 0) throw new Error(called.stderr);
    return JSON.parse(called.stdout) as unknown;
  };

  /** A call of the agent as the service `toy`, who is known by its socket. */
  const asService = async (method: string): Promise<unknown> => {
    const socket = join(agent.data, 'run', 'services', 'toy.sock');
    const called = await muster(['call', '--agent-socket', socket, method, '{}']);
    if (called.status !== 0) throw new Error(called.stderr);
    return JSON.parse(called.stdout) as unknown;
  };

  const listed = async (): Promise<readonly QueueJson[]> =>
    ((await site.json('queues')) as { queues?: QueueJson[] }).queues ?? [];

  before(async () => {
    scratch = await mkdtemp(join(tmpdir(), 'muster-queue-'));
    site = await Site.start();
    agent = await site.addAgent('desk');
    await agent.declare('toy', 'name: toy\ncommand: [sleep, infinity]\nstart: { settle: 100ms }\n');
    await site.instance('toy', 'RUNNING', running);
    queue = await site.addQueue('main');
  });

  after(async () => {
    await site.close();
    await rm(scratch, { recursive: true, force: true });
  });

  it('joins with the pasted line, and is listed with its address', async () => {
    const [only] = await waitFor('the queue to be known', async () => {
      const queues = await listed();
      return queues.every(({ address }) => address !== undefined) && queues;
    });
    assert.deepEqual([only?.name, only?.address], ['main', queue.process.ready['address']]);
    assert.match(
      (await site.cli('queues')).stdout,
      /^QUEUE +ADDRESS +LAST SEEN +JOINED\nmain +127\.0\.0\.1:\d+ +\S+ ago/,
    );
  });

  it('is found by a service through its agent, which publishes there with its own certificate', async () => {
    await operate('Queue/CreateTopic', { topic: { name: 'open' } });
    await operate('Queue/CreateTopic', { topic: { name: 'closed', publishers: ['shop'] } });
    const found = await waitFor('the agent to know the queue', async () => {
      const { queues } = (await asService('Agent/GetQueues')) as { queues?: QueueJson[] };
      return queues?.[0];
    });
    const held = (await asService('Agent/GetCertificate')) as Record<'certificate' | 'privateKey' | 'ca', string>;
    const file = async (name: string, text: string): Promise<string> => {
      const path = join(scratch, name);
      await writeFile(path, text, { mode: 0o600 });
      return path;
    };
    const trust = [
      ...['--protocol', 'grpc', '--servername', 'queue.muster', '--cacert', await file('ca.pem', held.ca)],
      ...['--cert', await file('cert.pem', held.certificate), '--key', await file('key.pem', held.privateKey)],
    ];
    const publish = (topic: string): string[] => [
      ...['curl', ...trust, '-d', `{"topic":"${topic}","messages":[{"payload":"aGVsbG8="}]}`],
      `https://${found.address ?? ''}/muster.v1.Queue/Publish`,
    ];
    assert.match(await must(BUF, ...publish('open')), /"firstSequence"/);
    const refused = await system(BUF, ...publish('closed'));
    assert.notEqual(refused.status, 0);
    assert.match(refused.stderr, /permission_denied[^]*service toy on \S+ may not publish to topic \\?"closed\\?"/);
  });

  it('comes back with its identity when it is killed, and serves with the center gone', async () => {
    await queue.process.end('SIGKILL');
    await site.center.end('SIGKILL');
    await queue.process.start();
    assert.equal(queue.process.ready['name'], 'main');
    assert.equal((await muster(['call', '--agent-socket', queue.socket, 'Queue/ListTopics'])).status, 0);
    const { queues, stale } = (await asService('Agent/GetQueues')) as { queues?: QueueJson[]; stale?: boolean };
    assert.deepEqual([queues?.map(({ name }) => name), stale], [['main'], true]);
    await site.center.start();
  });

  it('is forgotten on order', async () => {
    const unknown = await site.cli('queues', 'rm', 'mian');
    assert.equal(unknown.status, 1);
    assert.match(unknown.stderr, /no queue "mian"\. Did you mean "main"\?/);
    const removed = await site.cli('queues', 'rm', 'main');
    assert.equal(removed.status, 0, removed.stderr);
    assert.deepEqual(await listed(), []);
    await queue.process.end('SIGKILL');
    await queue.process.start();
    await waitFor('the queue to say why', () => queue.process.said().includes('was removed from the site'));
  });
});
