import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import type { Document, Snapshot, WatchResponse } from '../../../generated/muster/v1/config.js';
import { DOCUMENT_BYTES_MAX } from '../../../src/config/document.js';
import { systemClock } from '../../../src/kit/clock.js';
import {
  clientsAt,
  MACHINE,
  relay,
  startAgentHost,
  startCenterHost,
  type AgentHost,
  type CenterHost,
  type Clients,
} from '../../support/hops.js';
import { waitFor } from '../../support/waiting.js';

class Site {
  readonly #directory: string;
  readonly #clients: Clients[] = [];
  center: CenterHost;
  agent: AgentHost;

  private constructor(directory: string, center: CenterHost, agent: AgentHost) {
    this.#directory = directory;
    this.center = center;
    this.agent = agent;
    relay(center, agent);
  }

  static async start(t: TestContext): Promise<Site> {
    const directory = await mkdtemp(join(tmpdir(), 'muster-config-'));
    const center = await startCenterHost(join(directory, 'center'), ['orders', 'billing']);
    const site = new Site(directory, center, await startAgent(directory));
    t.after(() => site.#close());
    return site;
  }

  async restartCenter(): Promise<void> {
    await this.center.close();
    this.center = await startCenterHost(join(this.#directory, 'center'), ['orders', 'billing']);
    relay(this.center, this.agent);
  }

  async restartAgent(): Promise<void> {
    await this.agent.close();
    this.agent = await startAgent(this.#directory);
    relay(this.center, this.agent);
  }

  /** A client of a socket of the center or the agent. */
  at(...path: string[]): Clients {
    const clients = clientsAt(join(this.#directory, ...path));
    this.#clients.push(clients);
    return clients;
  }

  publish(text: string, more: { machine?: string; etag?: string; requestId?: string } = {}): Promise<Document> {
    const { machine = '', etag = '', requestId = '' } = more;
    const scope = { service: 'orders', machine };
    return this.at('center', 'operator.sock').config.publish({ scope, text, etag, comment: 'a test', requestId });
  }

  async #close(): Promise<void> {
    for (const clients of this.#clients) clients.close();
    await this.agent.close();
    await this.center.close();
    await rm(this.#directory, { recursive: true, force: true });
  }
}

function startAgent(directory: string): Promise<AgentHost> {
  const center = `unix:${join(directory, 'center', 'agent.sock')}`;
  return startAgentHost(join(directory, 'agent'), { center, services: ['orders', 'billing'] });
}

async function snapshotOf(frame: Promise<IteratorResult<WatchResponse>>): Promise<Snapshot> {
  const next = await frame;
  assert.ok(next.done !== true && next.value.change?.$case === 'snapshot', JSON.stringify(next));
  return next.value.change.value;
}

describe('publishing configuration', () => {
  it('keeps the text, takes the next revision and merges the machine over the service', async (t) => {
    const site = await Site.start(t);
    const operator = site.at('center', 'operator.sock').config;
    const text = '# who is greeted\ngreeting: Hello\nlimits: { rps: 10, burst: 20 }\n';
    const first = await site.publish(text, { etag: 'new' });
    assert.deepEqual([first.revision, first.publishedBy, first.comment], [1, 'operator ann', 'a test']);
    const second = await site.publish('limits: { rps: 5, burst: null }', { machine: MACHINE.name });
    assert.deepEqual([second.revision, second.scope], [2, { service: 'orders', machine: MACHINE.name }]);

    const scope = { service: 'orders', machine: '' };
    assert.equal((await operator.getDocument({ scope, revision: 0 })).text, text);
    const merged = await operator.get({ service: 'orders', machine: MACHINE.id });
    assert.deepEqual(merged.values, { greeting: 'Hello', limits: { rps: 5 } });
    assert.deepEqual(merged.provenance, { greeting: 'service', limits: `machine ${MACHINE.name}` });
    assert.equal(merged.revision, 2);
    // A change for one machine is none for the others.
    assert.equal((await operator.get({ service: 'orders', machine: '' })).revision, 1);
  });

  it('is refused with line and column, and by name', async (t) => {
    const site = await Site.start(t);
    const operator = site.at('center', 'operator.sock').config;
    await assert.rejects(site.publish('a: 1\nb: .nan\n'), { code: 'invalid', message: /config:2:4: b: / });
    await assert.rejects(site.publish(`a: ${'x'.repeat(DOCUMENT_BYTES_MAX)}`), { reason: 'DOCUMENT_TOO_LARGE' });
    await assert.rejects(site.publish('a: 1', { machine: 'web-2' }), { code: 'not_found', message: /"web-1"/ });
    const request = { etag: '', comment: '', requestId: '', text: 'a: 1' };
    await assert.rejects(operator.publish({ ...request, scope: { service: 'order', machine: '' } }), {
      code: 'not_found',
      message: /Did you mean "orders"\?/,
    });
    const scope = { service: 'orders', machine: '' };
    await assert.rejects(operator.validate({ scope, text: '- 1' }), { code: 'invalid', message: /mapping/ });
    assert.deepEqual((await operator.validate({ scope, text: 'a: 1' })).values, { a: 1 });
    assert.equal((await operator.getDocument({ scope, revision: 0 })).revision, 0);
  });

  it('is compare-and-set by etag, and once per request id', async (t) => {
    const site = await Site.start(t);
    const first = await site.publish('a: 1', { etag: 'new', requestId: 'r-1' });
    assert.deepEqual(await site.publish('a: 1', { etag: 'new', requestId: 'r-1' }), first);
    await assert.rejects(site.publish('a: 2', { requestId: 'r-1' }), { reason: 'REQUEST_ID_REUSED' });
    await assert.rejects(site.publish('a: 2', { etag: 'new' }), { code: 'conflict', reason: 'ETAG_MISMATCH' });
    const second = await site.publish('a: 2', { etag: first.etag });
    assert.equal(second.revision, 2);
    await assert.rejects(site.publish('a: 3', { etag: first.etag }), { code: 'conflict', reason: 'ETAG_MISMATCH' });
    // Of many at once with the same etag one wins.
    const racing = await Promise.allSettled(
      Array.from({ length: 10 }, (_, n) => site.publish(`a: ${10 + n}`, { etag: second.etag })),
    );
    assert.equal(racing.filter(({ status }) => status === 'fulfilled').length, 1);
    // The same text is no new revision.
    const third = await site.publish('a: 99');
    assert.equal((await site.publish('a: 99')).revision, third.revision);
  });

  it('keeps a history over restarts, and removal is part of it', async (t) => {
    const site = await Site.start(t);
    for (let n = 1; n <= 5; n += 1) await site.publish(`a: ${n}`);
    await site.publish('b: 1', { machine: MACHINE.id });
    await site.publish('');
    await site.restartCenter();
    const operator = site.at('center', 'operator.sock').config;
    const page = await operator.listRevisions({ service: 'orders', pageSize: 4, pageToken: '' });
    assert.deepEqual(
      page.revisions.map(({ revision, text }) => [revision, text]),
      [
        [7, ''],
        [6, 'b: 1'],
        [5, 'a: 5'],
        [4, 'a: 4'],
      ],
    );
    const rest = await operator.listRevisions({ service: 'orders', pageSize: 4, pageToken: page.nextPageToken });
    assert.deepEqual(
      rest.revisions.map(({ revision }) => revision),
      [3, 2, 1],
    );
    assert.equal(rest.nextPageToken, '');
    const scope = { service: 'orders', machine: '' };
    assert.equal((await operator.getDocument({ scope, revision: 6 })).text, 'a: 5');
    assert.deepEqual((await operator.get({ service: 'orders', machine: MACHINE.id })).values, { b: 1 });
    assert.equal((await operator.get({ service: 'orders', machine: '' })).revision, 7);
    const removed = await operator.getDocument({ scope, revision: 0 });
    assert.deepEqual([removed.text, removed.etag, removed.revision], ['', '', 7]);
    assert.equal((await site.publish('a: 1', { etag: 'new' })).revision, 8);
  });
});

describe('configuration on its way to a service', () => {
  it('arrives within a second of its publication', async (t) => {
    const site = await Site.start(t);
    const orders = site.at('agent', 'orders.sock').config;
    const frames = orders.watch({ machine: '', service: '', hash: '' })[Symbol.asyncIterator]();
    assert.deepEqual((await snapshotOf(frames.next())).values, {});
    const next = frames.next();
    const began = systemClock.monotonic();
    await site.publish('greeting: Hello');
    const snapshot = await snapshotOf(next);
    const tookMs = systemClock.monotonic() - began;
    assert.deepEqual(snapshot.values, { greeting: 'Hello' });
    assert.equal(snapshot.stale, false);
    t.diagnostic(`publication to service: ${Math.round(tookMs)} ms`);
    assert.ok(tookMs < 1_000, `took ${tookMs} ms`);
    await frames.return?.();
    const again = orders.watch({ machine: '', service: '', hash: snapshot.hash })[Symbol.asyncIterator]();
    const unchanged = await again.next();
    assert.ok(unchanged.done !== true);
    assert.equal(unchanged.value.change?.$case, 'unchanged');
    await again.return?.();
  });

  it('is read by its own service and by operators, and by nobody else', async (t) => {
    const site = await Site.start(t);
    await site.publish('greeting: Hello');
    await waitFor('the agent to hold it', () => site.agent.config.of('orders').held === 1);
    const orders = site.at('agent', 'orders.sock').config;
    const billing = site.at('agent', 'billing.sock').config;
    const operator = site.at('agent', 'operator.sock').config;
    assert.deepEqual((await orders.get({ service: '', machine: '' })).values, { greeting: 'Hello' });
    assert.deepEqual((await operator.get({ service: 'orders', machine: '' })).values, { greeting: 'Hello' });
    assert.deepEqual((await billing.get({ service: '', machine: '' })).values, {});
    await assert.rejects(billing.get({ service: 'orders', machine: '' }), { code: 'denied' });
    await assert.rejects(
      async () => {
        for await (const frame of billing.watch({ service: 'orders', machine: '', hash: '' })) {
          assert.fail(JSON.stringify(frame));
        }
      },
      { code: 'denied' },
    );
    await assert.rejects(operator.reportApplied({ service: 'orders', machine: '', revision: 1, error: '' }), {
      code: 'denied',
    });
    await assert.rejects(orders.reportApplied({ service: '', machine: '', revision: 2, error: '' }), {
      code: 'invalid',
    });
    // At the center an agent is the machine its certificate names, whatever it asks for.
    const agent = site.at('center', 'agent.sock').config;
    await site.publish('greeting: Servus', { machine: MACHINE.id });
    const own = await agent.get({ service: 'orders', machine: 'another' });
    assert.deepEqual(own.values, { greeting: 'Servus' });
  });

  it('stays while the center is away, over a restart of the agent, and is marked stale', async (t) => {
    const site = await Site.start(t);
    await site.publish('greeting: Hello');
    await waitFor('the agent to hold it', () => site.agent.config.of('orders').held === 1);
    await site.restartAgent();
    site.agent.center.connect(false);
    const orders = site.at('agent', 'orders.sock').config;
    const held = await orders.get({ service: '', machine: '' });
    assert.deepEqual([held.values, held.revision, held.stale], [{ greeting: 'Hello' }, 1, true]);

    // What was published meanwhile comes when the center is back, even if the first tries fail.
    await site.publish('greeting: Servus');
    assert.equal(site.agent.config.of('orders').held, 1);
    site.agent.center.connect(true);
    await waitFor('the agent to hold the new one', () => site.agent.config.of('orders').held === 2);
    assert.equal((await orders.get({ service: '', machine: '' })).stale, false);
  });

  it('is adopted as the service says, also when it says so while the center is away', async (t) => {
    const site = await Site.start(t);
    const facts = site.center.fleet.facts;
    const fact = (): void => {
      const { held, applied } = site.agent.config.of('orders');
      facts.splice(0, 1, { machine: MACHINE, service: 'orders', configHeld: held, configApplied: applied });
    };
    await site.publish('greeting: Hello');
    await waitFor('the agent to hold it', () => site.agent.config.of('orders').held === 1);
    const orders = site.at('agent', 'orders.sock').config;
    const operator = site.at('center', 'operator.sock').config;
    await orders.reportApplied({ service: '', machine: '', revision: 1, error: '' });
    fact();
    const adopted = await waitFor('the report to arrive', async () => {
      const { machines } = await operator.getAdoption({ service: 'orders' });
      return machines[0]?.reported && machines[0];
    });
    const { machine, machineName, desired, held, applied, error, online } = adopted;
    assert.deepEqual(
      { machine, machineName, desired, held, applied, error, online },
      { machine: MACHINE.id, machineName: MACHINE.name, desired: 1, held: 1, applied: 1, error: '', online: true },
    );

    await site.publish('greeting: 7');
    await waitFor('the agent to hold it', () => site.agent.config.of('orders').held === 2);
    site.agent.center.connect(false);
    await orders.reportApplied({ service: '', machine: '', revision: 2, error: 'greeting must be text' });
    fact();
    assert.equal((await operator.getAdoption({ service: 'orders' })).machines[0]?.error, '');
    site.agent.center.connect(true);
    const refused = await waitFor('the refusal to arrive', async () => {
      const { machines } = await operator.getAdoption({ service: 'orders' });
      return machines.find(({ error: why }) => why !== '');
    });
    assert.deepEqual(
      [refused.desired, refused.held, refused.applied, refused.error],
      [2, 2, 1, 'greeting must be text'],
    );
    await assert.rejects(operator.getAdoption({ service: 'ordres' }), { message: /"orders"/ });
  });
});
