import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Courier, TailOrder } from '../../../../src/center/gateway/parts.js';
import { FleetTail, type FleetBatch, type Placed } from '../../../../src/center/output/fleet-tail.js';
import { Outputs } from '../../../../src/center/output/outputs.js';
import { Tails } from '../../../../src/center/output/tails.js';
import { ManualClock } from '../../../../src/kit/clock.js';
import { MusterError } from '../../../../src/kit/errors.js';
import { failureOf } from '../../../support/rpc.js';
import { waitFor } from '../../../support/waiting.js';

interface Line extends Placed {
  readonly text: string;
}

const WISH = { service: 'orders', lines: 10, file: '', positions: new Map<string, string>() };
const line = (text: string): Line => ({ text, position: `p${text}` });

/** Machines web-1, web-2, ... that answer as the test says. */
class Fleet {
  readonly clock = new ManualClock();
  readonly outputs = new Outputs<{ readonly lines: readonly Line[] }>();
  readonly orders: (TailOrder & { readonly machine: string })[] = [];
  readonly offline = new Set<string>();
  readonly removed = new Set<string>();
  readonly seen: string[] = [];
  readonly stop = new AbortController();
  reading: Promise<void> = Promise.resolve();

  /** Begins to read so many machines. */
  read(machines: number, follow: boolean, positions = WISH.positions): void {
    const courier: Courier = {
      connected: (machine) => !this.offline.has(machine),
      order: () => true,
      assign: () => true,
      acknowledge: () => true,
      cancel: () => true,
      tail: (machine, order) => {
        if (this.offline.has(machine)) return false;
        this.orders.push({ ...order, machine });
        return true;
      },
    };
    const { clock, outputs } = this;
    const isOnline = (machine: string): boolean | undefined =>
      this.removed.has(machine) ? undefined : !this.offline.has(machine);
    const all = Array.from({ length: machines }, (_, index) => ({ id: `m-${index + 1}`, name: `web-${index + 1}` }));
    const tail = new FleetTail<Line>(
      { tails: new Tails({ courier, clock, outputs }), clock, random: { next: () => 0.9 }, isOnline },
      { ...WISH, machines: all, follow, positions },
    );
    this.reading = (async () => {
      for await (const batch of tail.read(this.stop.signal)) this.seen.push(textOf(batch));
    })();
  }

  /** The newest order of a machine, once it is there: within two minutes of the clock. */
  async order(machine: string, count = 1): Promise<TailOrder> {
    for (let step = 0; step < 1200; step += 1) {
      await this.clock.advance(100);
      await new Promise((resolve) => setImmediate(resolve));
      const orders = this.orders.filter((order) => order.machine === machine);
      const newest = orders.at(-1);
      if (newest && orders.length >= count) return newest;
    }
    throw new Error(`order ${count} of ${machine} does not come`);
  }

  async answer(machine: string, { command }: TailOrder, ...texts: string[]): Promise<void> {
    this.outputs.begin(machine, command);
    for (const text of texts) await this.outputs.deliver(machine, command, { lines: [line(text)] });
  }

  end(machine: string, { command }: TailOrder, error?: MusterError): void {
    this.outputs.end(machine, command, error);
  }
}

function textOf(batch: FleetBatch<Line>): string {
  const text = 'notice' in batch ? `(${batch.notice})` : batch.lines.map((one) => one.text).join();
  return `${batch.machine.name} ${text}`;
}

const lost = new MusterError('unavailable', 'the agent stopped sending', { reason: 'MACHINE_LOST' });
const noLog = new MusterError('precondition', 'there is no such log', { reason: 'OUTPUT_FAILED' });

describe('the log of several machines', () => {
  it('is read to its end, and one that fails does not end the others', async () => {
    const fleet = new Fleet();
    fleet.offline.add('m-3');
    fleet.read(3, false, new Map([['web-1', 'p0']]));
    const [one, two] = [await fleet.order('m-1'), await fleet.order('m-2')];
    assert.deepEqual([one.position, two.position, one.lines], ['p0', '', 10]);
    fleet.end('m-2', two, noLog);
    await fleet.answer('m-1', one, '1', '2');
    fleet.end('m-1', one);
    await fleet.reading;
    assert.deepEqual(fleet.seen.toSorted(), [
      'web-1 1',
      'web-1 2',
      'web-2 (there is no such log)',
      'web-3 (machine web-3 is not connected: its logs can be read when it is back)',
    ]);
    assert.equal(fleet.outputs.size, 0);
  });

  it('fails where every machine does', async () => {
    const fleet = new Fleet();
    fleet.offline.add('m-1');
    fleet.offline.add('m-2');
    fleet.read(2, false);
    assert.match((await failureOf(fleet.reading)).message, /^none of the 2 machines could give the log: machine web-1/);
  });

  it('is followed over a loss of contact from the last position, and both is said', async () => {
    const fleet = new Fleet();
    fleet.offline.add('m-2');
    fleet.read(2, true);
    const first = await fleet.order('m-1');
    await fleet.answer('m-1', first, '1', '2');
    fleet.offline.add('m-1');
    fleet.end('m-1', first, lost);
    await waitFor('the notice', async () => {
      await fleet.clock.advance(100);
      return fleet.seen.some((text) => text.startsWith('web-1 (contact'));
    });
    fleet.offline.delete('m-1');
    const second = await fleet.order('m-1', 2);
    assert.equal(second.position, 'p2');
    await fleet.answer('m-1', second, '3');
    fleet.offline.delete('m-2');
    await fleet.answer('m-2', await fleet.order('m-2'), 'a');
    const of = (name: string): string[] => fleet.seen.filter((text) => text.startsWith(name));
    await waitFor('all of it', () => of('web-1').length === 5 && of('web-2').length === 3);
    assert.match(of('web-1')[2] ?? '', /contact with web-1 lost at \d\d:\d\d:\d\d UTC; reading on when it is back/);
    assert.deepEqual(of('web-1').slice(3), ['web-1 (web-1 is back; reading on)', 'web-1 3']);
    assert.match(of('web-2')[0] ?? '', /web-2 is not connected/);
    assert.deepEqual(of('web-2').slice(1), ['web-2 (web-2 is back; reading on)', 'web-2 a']);
    fleet.stop.abort();
    await fleet.reading;
    assert.deepEqual([fleet.outputs.size, fleet.clock.pending], [0, 0]);
  });

  it('asks a machine whose log breaks off again and again ever more seldom, until lines come', async () => {
    const fleet = new Fleet();
    fleet.read(1, true);
    const begun = fleet.clock.monotonic();
    const asked: number[] = [];
    for (let round = 1; round <= 12; round += 1) {
      const order = await fleet.order('m-1', round);
      asked.push(fleet.clock.monotonic() - begun);
      await fleet.answer('m-1', order);
      fleet.end('m-1', order, lost);
    }
    const pauses = asked.slice(1).map((at, index) => at - (asked[index] ?? 0));
    // With a jitter of 0.9, and in steps of the clock.
    const expected = [450, 900, 1800, 3600, 7200, 14_400, 27_000, 27_000, 27_000, 27_000, 27_000];
    const near = pauses.every((pause, index) => Math.abs(pause - (expected[index] ?? 0)) <= 400);
    assert.ok(near, `pauses are ${pauses.join(', ')}`);
    // It is there all the time.
    assert.ok(fleet.seen.every((text) => !text.includes('contact')));
    assert.match(
      fleet.seen[0] ?? '',
      /^web-1 \(web-1 stopped sending its log at \d\d:\d\d:\d\d UTC; it is asked again\)$/,
    );
    const order = await fleet.order('m-1', 13);
    await fleet.answer('m-1', order, '1');
    const atMs = fleet.clock.monotonic();
    fleet.end('m-1', order, lost);
    await fleet.order('m-1', 14);
    assert.ok(fleet.clock.monotonic() - atMs < 1000);
    fleet.stop.abort();
    await fleet.reading;
    assert.deepEqual([fleet.outputs.size, fleet.clock.pending], [0, 0]);
  });

  it('reads on as soon as a machine is there that was away for long', async () => {
    const fleet = new Fleet();
    fleet.offline.add('m-1');
    fleet.read(1, true);
    await waitFor('the notice', () => fleet.seen.length === 1);
    for (let second = 0; second < 600; second += 1) await fleet.clock.advance(1000);
    assert.equal(fleet.orders.length, 0);
    fleet.offline.delete('m-1');
    const atMs = fleet.clock.monotonic();
    await fleet.order('m-1');
    assert.ok(fleet.clock.monotonic() - atMs < 1000);
    fleet.stop.abort();
    await fleet.reading;
  });

  it('ends with what went wrong where that is not the contact', async () => {
    const fleet = new Fleet();
    fleet.read(1, true);
    const order = await fleet.order('m-1');
    await fleet.answer('m-1', order, '1');
    fleet.end('m-1', order, new MusterError('exhausted', 'the output broke off: a message is too large'));
    assert.equal((await failureOf(fleet.reading)).message, 'the output broke off: a message is too large');
    assert.deepEqual(fleet.seen, ['web-1 1']);
  });

  it('asks a log that had no line for all it has when contact was lost', async () => {
    const fleet = new Fleet();
    fleet.read(1, true);
    const first = await fleet.order('m-1');
    await fleet.answer('m-1', first);
    await fleet.clock.advance(5000);
    fleet.end('m-1', first, lost);
    assert.equal((await fleet.order('m-1', 2)).lines, 10_000);
    fleet.stop.abort();
    await fleet.reading;
  });

  it('goes on without a machine that is removed, which is said', async () => {
    const fleet = new Fleet();
    fleet.read(2, true);
    const [one, two] = [await fleet.order('m-1'), await fleet.order('m-2')];
    await fleet.answer('m-1', one, '1');
    fleet.removed.add('m-2');
    fleet.end('m-2', two, lost);
    await fleet.outputs.deliver('m-1', one.command, { lines: [line('2')] });
    await waitFor('the notice', () => fleet.seen.some((text) => /web-2 was removed from the site/.test(text)));
    fleet.stop.abort();
    await fleet.reading;
  });
});
