import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { describe, it } from 'node:test';
import { MusterError } from '../../../src/kit/errors.js';
import { implement } from '../../../src/rpc/implementation.js';
import { SEND_WINDOW_MESSAGES, SendWindow, untilAborted } from '../../../src/rpc/streams.js';
import { sniff } from '../../../src/rpc/sniff.js';
import { ManualClock } from '../../../src/kit/clock.js';

/** A transport that takes messages only when told. */
class Transport {
  readonly offered: string[] = [];
  readonly #taken: (() => void)[] = [];

  readonly write = (message: string, taken: () => void): void => {
    this.offered.push(message);
    this.#taken.push(taken);
  };

  take(count: number): void {
    for (const taken of this.#taken.splice(0, count)) taken();
  }
}

/** Whether a promise has settled, after everything ready to run has run. */
async function pending(work: Promise<unknown>): Promise<boolean> {
  let settled = false;
  void work.then(
    () => (settled = true),
    () => (settled = true),
  );
  await new Promise((resolve) => setImmediate(resolve));
  return !settled;
}

describe('a send window', () => {
  it('lets the window fill, then waits for the transport', async () => {
    const transport = new Transport();
    const window = new SendWindow<string>(transport.write, new AbortController().signal);
    for (let index = 1; index < SEND_WINDOW_MESSAGES; index += 1) await window.send(String(index));
    const full = window.send('full');
    assert.ok(await pending(full));
    assert.equal(window.pending, SEND_WINDOW_MESSAGES);
    transport.take(1);
    await full;
  });

  it('ends those who wait with the failure of the call', async () => {
    const transport = new Transport();
    const ended = new AbortController();
    const window = new SendWindow<string>(transport.write, ended.signal);
    for (let index = 1; index < SEND_WINDOW_MESSAGES; index += 1) await window.send(String(index));
    const waiting = [window.send('a'), window.send('b')];
    ended.abort(new MusterError('unavailable', 'gone'));
    for (const each of waiting) await assert.rejects(each, { code: 'unavailable' });
    await assert.rejects(window.send('c'), { code: 'unavailable' });
    assert.equal(transport.offered.length, SEND_WINDOW_MESSAGES + 1);
  });

  it('refuses after its close', async () => {
    const window = new SendWindow<string>(new Transport().write, new AbortController().signal);
    assert.equal(window.close(), true);
    assert.equal(window.close(), false);
    await assert.rejects(window.send('late'), { code: 'precondition' });
  });
});

describe('untilAborted', () => {
  it('gives what the work gives', async () => {
    assert.equal(await untilAborted(Promise.resolve(1), new AbortController().signal), 1);
    await assert.rejects(untilAborted(Promise.reject(new Error('x')), new AbortController().signal), /x/);
  });

  it('does not wait for work that ignores the signal, before or after', async () => {
    const controller = new AbortController();
    const waiting = untilAborted(new Promise(() => undefined), controller.signal);
    controller.abort(new Error('enough'));
    await assert.rejects(waiting, /enough/);
    await assert.rejects(untilAborted(new Promise(() => undefined), controller.signal), /enough/);
  });
});

describe('implement', () => {
  const bytes = (value: Buffer): Buffer => value;
  const shape = {
    requestSerialize: bytes,
    requestDeserialize: bytes,
    responseSerialize: bytes,
    responseDeserialize: bytes,
  };

  it('names the service, and misses no handler', () => {
    const definition = { go: { ...shape, path: '/a.b.C/Go', requestStream: false, responseStream: false } } as const;
    assert.equal(implement(definition, { go: (value) => Promise.resolve(value) }).service, 'a.b.C');
    assert.throws(
      () => implement(definition, {} as { go: (value: Buffer) => Promise<Buffer> }),
      /no handler for \/a\.b\.C\/Go/,
    );
    assert.throws(() => implement({}, {}), /without methods/);
  });
});

describe('sniffing', () => {
  for (const [first, protocol] of [
    [['PRI * HTTP/2.0'], 'http2'],
    [['P', 'R', 'I'], 'http2'],
    [['GET /'], 'http1'],
    [['P', 'OST /'], 'http1'],
    [['PR', 'OPFIND /'], 'http1'],
  ] as const) {
    it(`takes ${first.join('|')} for ${protocol}, and gives every byte back`, async () => {
      const socket = new PassThrough();
      const clock = new ManualClock();
      const decided = new Promise<string>((resolve) => {
        sniff(socket, { clock, timeoutMs: 100 }, resolve);
      });
      for (const piece of first) {
        socket.write(piece);
        await new Promise((resolve) => setImmediate(resolve));
      }
      assert.equal(await decided, protocol);
      assert.equal(String(socket.read() as unknown), first.join(''));
      assert.equal(clock.pending, 0);
    });
  }

  it('gives up on silence', async () => {
    const socket = new PassThrough();
    const clock = new ManualClock();
    sniff(socket, { clock, timeoutMs: 100 }, () => assert.fail('nothing was said'));
    socket.write('P');
    await clock.advance(101);
    assert.equal(socket.destroyed, true);
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(clock.pending, 0);
  });
});
