import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { CommandStatus } from '../../../../src/agent/commands/journal.js';
import { heartbeatFrame } from '../../../../src/agent/link/frames.js';
import { FRAMES_WAITING_MAX, type MakeFrame, Outbox, REFRESH_INTERVAL_MS } from '../../../../src/agent/link/outbox.js';
import { ManualClock } from '../../../../src/kit/clock.js';
import { isCode } from '../../../../src/kit/errors.js';
import { NO_RESULT } from '../../../../src/model/command-result.js';
import type { CheckResult } from '../../../../src/model/instance.js';
import { FakeServices } from '../../../support/fake-services.js';
import { RESOURCES } from '../../../support/linked-agent.js';

function outbox(services = new FakeServices(), clock = new ManualClock()) {
  const listeners = new Set<(status: CommandStatus) => void>();
  const opened = new Outbox({
    control: services,
    commands: {
      pending: () => [],
      onUpdate: (listener) => {
        listeners.add(listener);
        return () => listeners.delete(listener);
      },
    },
    config: { of: () => ({ held: 0, applied: 0 }), onChange: () => () => undefined },
    inventory: { latest: undefined, onCollected: () => () => undefined },
    clock,
  });
  const tell = (command: string, outcome: CommandStatus['outcome'] = 'STARTED'): void => {
    const status = {
      command,
      action: 'START',
      service: 'orders',
      outcome,
      message: '',
      startedMs: 0,
      endedMs: 0,
      result: NO_RESULT,
    } as const;
    for (const listener of listeners) listener(status);
  };
  return { opened, tell, services, listeners };
}

async function frames(box: Outbox): Promise<string[]> {
  const sent: string[] = [];
  for await (const make of { [Symbol.asyncIterator]: () => box[Symbol.asyncIterator]() }) {
    const frame = make();
    if (frame?.$case === 'instanceState') sent.push(frame.value.instance?.state ?? 'end');
    else if (frame?.$case === 'commandUpdate') sent.push(`${frame.value.command} ${frame.value.outcome}`);
    else if (frame) sent.push(frame.$case);
  }
  return sent;
}

test('a slow center gets the newest of each service and command, once', async () => {
  const { opened, tell, services, listeners } = outbox(new FakeServices('orders'));
  services.set('orders', { state: 'STOPPING' });
  services.set('orders', { state: 'STOPPED' });
  tell('c-1');
  tell('c-1', 'SUCCEEDED');
  opened.tellAll();
  services.set('orders', { state: 'STARTING' });
  opened.close();
  assert.equal(listeners.size, 0);
  assert.equal(services.listeners, 0);
  assert.deepEqual(await frames(opened), ['SERVICE_STATE_STARTING', 'c-1 OUTCOME_SUCCEEDED', 'end']);
});

test('a center that takes nothing ends its session instead of filling the memory', async () => {
  const { opened, tell } = outbox();
  for (let n = 0; n < FRAMES_WAITING_MAX + 10; n += 1) tell(`c-${n}`);
  await assert.rejects(frames(opened), (error) => isCode(error, 'exhausted'));
});

const PASSING: CheckResult = {
  name: 'port http',
  kind: 'http',
  health: 'PASSING',
  sinceMs: 1000,
  lastRunMs: 1000,
  tookMs: 3,
  output: '200 OK',
  streak: 1,
};

/** Outputs of the checks that the outbox has to tell since the last call. */
function checksTold(box: Outbox): () => Promise<string[]> {
  const made = box[Symbol.asyncIterator]();
  return async () => {
    const told: string[] = [];
    box.tellApplied({ service: 'mark', generation: 0, phase: 'PHASE_APPLIED', error: '' });
    for (;;) {
      const next = await made.next();
      if (next.done) return told;
      const frame = next.value();
      if (frame?.$case === 'applied') return told;
      if (frame?.$case === 'instanceState') told.push(frame.value.instance?.checks[0]?.output ?? 'removed');
    }
  };
}

test('results of checks that change nothing are not told one by one, and ride along with news and once a minute', async () => {
  const clock = new ManualClock();
  const { opened, services } = outbox(new FakeServices('orders'), clock);
  const told = checksTold(opened);
  const beat = (): void => {
    opened.tellHeartbeat(heartbeatFrame(RESOURCES, 0));
  };
  let checks = [PASSING];
  const run = (fields: Partial<CheckResult>): void => {
    checks = checks.map((check) => ({
      ...check,
      lastRunMs: (check.lastRunMs ?? 0) + 1,
      streak: check.streak + 1,
      ...fields,
    }));
    services.set('orders', { checks });
  };
  services.set('orders', { checks });
  assert.deepEqual(await told(), ['200 OK']);
  run({ output: '200 OK in 4 ms', tookMs: 4 });
  beat();
  assert.deepEqual(await told(), []);
  services.set('orders', { restarts: 1 });
  assert.deepEqual(await told(), ['200 OK in 4 ms']);
  run({ health: 'CRITICAL', output: 'refused', sinceMs: 2000 });
  assert.deepEqual(await told(), ['refused']);
  run({ output: 'refused again' });
  await clock.advance(REFRESH_INTERVAL_MS - 1);
  beat();
  assert.deepEqual(await told(), []);
  await clock.advance(1);
  beat();
  assert.deepEqual(await told(), ['refused again']);
  await clock.advance(REFRESH_INTERVAL_MS);
  beat();
  assert.deepEqual(await told(), [], 'nothing differs');
  run({ output: 'refused a third time' });
  services.remove('orders');
  await clock.advance(REFRESH_INTERVAL_MS);
  beat();
  assert.deepEqual(await told(), ['removed']);
});

test('the first full report does not repeat what the session began with; another one tells all', async () => {
  const { opened } = outbox(new FakeServices('orders'));
  const made = opened[Symbol.asyncIterator]();
  const next = async (): Promise<string | undefined> => {
    const frame = ((await made.next()) as IteratorYieldResult<MakeFrame>).value();
    if (frame?.$case !== 'instanceState') return frame?.$case;
    return frame.value.fullReportEnd ? 'end' : frame.value.instance?.service;
  };
  assert.equal(await next(), undefined, 'no inventory yet');
  assert.equal(await next(), 'orders');
  opened.tellAll();
  assert.equal(await next(), 'end');
  opened.tellAll();
  assert.deepEqual([await next(), await next()], ['orders', 'end']);
});
