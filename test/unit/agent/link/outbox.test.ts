import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { CommandStatus } from '../../../../src/agent/commands/journal.js';
import { FRAMES_WAITING_MAX, Outbox } from '../../../../src/agent/link/outbox.js';
import { isCode } from '../../../../src/kit/errors.js';
import { FakeServices } from '../../../support/fake-services.js';

function outbox(services = new FakeServices()) {
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
