import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { ListInstancesResponse, type TailLogRequest } from '../../../generated/muster/v1/center.js';
import { LogLine } from '../../../generated/muster/v1/types.js';
import { MusterError } from '../../../src/kit/errors.js';
import { ScriptedCenter } from '../../support/scripted-center.js';
import { waitFor } from '../../support/waiting.js';

type Step = Parameters<typeof LogLine.fromPartial>[0] | (() => Promise<void>) | MusterError;

const forEver = (): Promise<void> => new Promise(() => undefined);
const line = (machine: number, text: string, fields: Partial<LogLine> = {}): Step => ({
  machineName: `web-${machine}`,
  service: 'orders',
  file: 'orders.log',
  text,
  position: `f1:${text.length}`,
  ...fields,
});

interface Fixture {
  readonly center: ScriptedCenter;
  readonly asked: TailLogRequest[];
}

/** A center with `orders` on so many machines, on which calls go as written, one after the other. */
async function fixture(t: TestContext, machines: number, ...scripts: readonly (readonly Step[])[]): Promise<Fixture> {
  const asked: TailLogRequest[] = [];
  const all = Array.from({ length: machines }, (_, index) => ({
    machine: `m-${index + 1}`,
    machineName: `web-${index + 1}`,
    service: 'orders',
  }));
  const center = await ScriptedCenter.start(t, {
    listInstances: () => Promise.resolve(ListInstancesResponse.fromPartial({ instances: all })),
    tailLog: async function* (request) {
      asked.push(request);
      for (const step of scripts[Math.min(asked.length, scripts.length) - 1] ?? []) {
        if (step instanceof MusterError) throw step;
        if (typeof step === 'function') await step();
        else yield LogLine.fromPartial(step);
      }
    },
  });
  return { center, asked };
}

describe('muster logs tail', () => {
  it('shows lines of several machines after their names, and notices beside them', async (t) => {
    const { center, asked } = await fixture(t, 12, [
      line(1, 'one'),
      line(12, 'two\u001b[31m\u202e'),
      line(2, 'there is no such log', { notice: true, position: '' }),
    ]);
    const { status, io } = await center.run([
      'logs',
      'tail',
      'orders',
      '-n',
      '5',
      '--on',
      'role=web',
      '--file',
      'a.log',
    ]);
    assert.equal(status, 0);
    assert.equal(io.written(), 'web-1   one\nweb-12  two\\x1b[31m\\u202e\n');
    assert.equal(io.complained(), 'muster: web-2: there is no such log\n');
    const { machine, selector, lines, follow, file } = asked[0] ?? assert.fail('not asked');
    assert.deepEqual([machine, selector, lines, follow, file], ['', 'role=web', 5, false, 'a.log']);
  });

  it('shows lines of one machine as they are, and in JSON with their positions', async (t) => {
    const { center, asked } = await fixture(t, 1, [line(1, 'one')]);
    assert.equal((await center.run(['logs', 'tail', 'orders'])).io.written(), 'one\n');
    assert.equal(asked[0]?.machine, 'm-1');
    const { io } = await center.run(['logs', 'tail', 'orders', '--json']);
    const shown = JSON.parse(io.written()) as Record<string, unknown>;
    assert.deepEqual([shown['machineName'], shown['text'], shown['position']], ['web-1', 'one', 'f1:3']);
  });

  it('goes on behind the last line of each machine when the center is back, says so, and ends with status 0', async (t) => {
    const { center, asked } = await fixture(
      t,
      2,
      [line(1, 'one'), line(2, 'three'), line(1, 'lost', { notice: true, position: '' }), forEver],
      [line(1, 'more', { position: '' }), forEver],
    );
    const stop = new AbortController();
    const { io, done } = center.begin(['logs', 'tail', 'orders', '-f'], { signal: stop.signal });
    await waitFor('the first lines', () => io.written().includes('three') && io.complained().includes('lost'));
    await center.stop();
    await waitFor('what is said', () => io.complained().includes('the center cannot be reached: reading on when'));
    await center.start();
    await waitFor('the next line', () => io.written().includes('more'));
    assert.deepEqual(asked[1]?.positions, { 'web-1': 'f1:3', 'web-2': 'f1:5' });
    assert.match(io.complained(), /the center is back: reading on/);
    stop.abort();
    assert.equal(await done, 0);
  });

  it('ends with what is refused, at once and later', async (t) => {
    const refusal = new MusterError('invalid', 'this cannot be', { reason: 'POSITION' });
    const { center } = await fixture(t, 1, [refusal]);
    const refused = await center.run(['logs', 'tail', 'orders', '-f']);
    assert.equal(refused.status, 1);
    assert.match(refused.io.complained(), /this cannot be/);
    for (const count of ['0', '10001', 'x'])
      assert.equal((await center.run(['logs', 'tail', 'orders', '-n', count])).status, 2, count);
    const local = await center.run(['logs', 'tail', 'orders', '--local', '--on', 'a=b']);
    assert.equal(local.status, 2);
  });
});
