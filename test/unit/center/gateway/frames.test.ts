import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { ConnectRequest } from '../../../../generated/muster/v1/center.js';
import { Instance } from '../../../../generated/muster/v1/types.js';
import { Instances, type InstanceRecord } from '../../../../src/center/fleet/instances.js';
import { Machines, type MachineRecord } from '../../../../src/center/fleet/machines.js';
import { FrameReader, INSTANCES_PER_MACHINE_MAX } from '../../../../src/center/gateway/frames.js';
import type { GatewayListeners } from '../../../../src/center/gateway/parts.js';
import { OUTBOX_FRAMES_MAX, Session } from '../../../../src/center/gateway/session.js';
import { Table } from '../../../../src/center/table.js';
import { ManualClock } from '../../../../src/kit/clock.js';
import { MusterError } from '../../../../src/kit/errors.js';
import { silentLogger } from '../../../../src/kit/logger.js';
import type { Inventory } from '../../../../src/model/machine.js';
import { openMemoryStore } from '../../../../src/store/memory.js';

const listeners: GatewayListeners = {
  differences: () => Promise.resolve([]),
  applied: () => undefined,
  commandsHeld: () => Promise.resolve(),
  commandReported: () => Promise.resolve(),
  contactLost: () => Promise.resolve(),
  duplicate: () => undefined,
};

const facts = { machine: 'm-1', epoch: 1, processId: 'p', intervalMs: 5000, address: 'x', startedMonotonicMs: 0 };

async function fixture() {
  const store = await openMemoryStore();
  const clock = new ManualClock();
  const open = <T>(prefix: string): Promise<Table<T>> => Table.open<T>({ store, prefix, clock, logger: silentLogger });
  const table = await open<MachineRecord>('machine/');
  const machines = new Machines({
    table,
    inventories: await open<Inventory>('inventory/'),
    clock,
    logger: silentLogger,
  });
  const instances = new Instances(await open<InstanceRecord>('instance/'), clock, () => undefined);
  return { clock, machines, instances, session: new Session(facts) };
}

function instanceFrame(sequence: number, service: string): ConnectRequest {
  const value = { instance: Instance.fromPartial({ service }), removed: false, fullReportEnd: false };
  return { sequence, frame: { $case: 'instanceState', value } };
}

async function* framesOf(...frames: readonly ConnectRequest[]): AsyncGenerator<ConnectRequest> {
  await Promise.resolve();
  yield* frames;
}

describe('frames', () => {
  it('of a stream that is no longer current change nothing, even if they were on their way before', async () => {
    const parts = await fixture();
    let current = true;
    const reader = new FrameReader({ ...parts, listeners, current: () => current });
    async function* frames(): AsyncGenerator<ConnectRequest> {
      yield* framesOf(instanceFrame(2, 'before'));
      current = false;
      yield* framesOf(instanceFrame(3, 'after'));
    }
    await reader.run(frames(), new AbortController().signal);
    assert.deepEqual(parts.instances.serviceNames(), ['before']);
  });

  it('must be numbered without a gap', async () => {
    const parts = await fixture();
    const reader = new FrameReader({ ...parts, listeners, current: () => true });
    const frames = framesOf(instanceFrame(2, 'a'), instanceFrame(4, 'b'));
    await assert.rejects(reader.run(frames, new AbortController().signal), { reason: 'SEQUENCE' });
    assert.deepEqual(parts.instances.serviceNames(), ['a']);
  });

  it('may tell of so many services and no more', async () => {
    const parts = await fixture();
    const reader = new FrameReader({ ...parts, listeners, current: () => true });
    const frames = Array.from({ length: INSTANCES_PER_MACHINE_MAX + 2 }, (_, n) => instanceFrame(n + 2, `s-${n}`));
    await assert.rejects(reader.run(framesOf(...frames), new AbortController().signal), { reason: 'INSTANCES_MAX' });
    assert.equal(parts.instances.size, INSTANCES_PER_MACHINE_MAX);
  });

  it('keep of an instance so much and no more, and leave out what has no proper name', async () => {
    const parts = await fixture();
    const reader = new FrameReader({ ...parts, listeners, current: () => true });
    const long = 'x'.repeat(100_000);
    const check = { name: long, kind: long, output: long };
    const big = Instance.fromPartial({
      ...{ service: 'big', version: long, reason: long, exitSignal: long, logDirectory: long },
      checks: Array.from({ length: 100 }, () => check),
    });
    const value = { instance: big, removed: false, fullReportEnd: true };
    const badNames = ['', '../x\n', '__proto__', 'a'.repeat(64)].map((name, n) => instanceFrame(n + 2, name));
    const notices: { readonly reason: string; readonly message: string }[] = [];
    parts.session.writeTo(({ frame }) => {
      if (frame?.$case === 'notice') notices.push(frame.value);
      return Promise.resolve();
    });
    const frames = framesOf(...badNames, { sequence: 6, frame: { $case: 'instanceState', value } });
    await reader.run(frames, new AbortController().signal);
    assert.deepEqual(parts.instances.serviceNames(), ['big']);
    const kept = JSON.stringify(parts.instances.list()).length;
    assert.ok(kept < 32 * 1024, `${kept} characters of one instance`);
    assert.deepEqual(
      notices.map(({ reason }) => reason),
      ['SERVICE_NAME'],
    );
    assert.match(notices[0]?.message ?? '', /leaves out service ""/);
  });

  it('end the session when the agent closes its side', async () => {
    const parts = await fixture();
    const reader = new FrameReader({ ...parts, listeners, current: () => true });
    await reader.run(framesOf(), new AbortController().signal);
    assert.equal(parts.session.live, false);
  });
});

describe('a session', () => {
  it('is ended when its agent does not read, and says why', () => {
    const session = new Session(facts);
    const frame = { $case: 'reportFull', value: {} } as const;
    for (let count = 0; count < OUTBOX_FRAMES_MAX; count += 1) assert.equal(session.send(frame), true);
    assert.equal(session.send(frame), false);
    assert.deepEqual([session.live, session.reason?.reason, session.send(frame)], [false, 'LAGGARD', false]);
  });

  it('is bounded in bytes too', () => {
    const session = new Session(facts);
    const value = {
      service: 's',
      generation: 1,
      manifest: 'x'.repeat(1024 * 1024),
      removed: false,
      configRevision: 0,
      configHash: '',
    };
    let sent = 0;
    while (session.send({ $case: 'assignment', value })) sent += 1;
    assert.equal(sent, 16);
  });

  it('keeps the first reason of its end', () => {
    const session = new Session(facts);
    session.end(new MusterError('conflict', 'fenced', { reason: 'SESSION_FENCED' }));
    session.end(new MusterError('unavailable', 'later'));
    assert.equal(session.reason?.reason, 'SESSION_FENCED');
    assert.equal(session.ended.aborted, true);
  });
});
