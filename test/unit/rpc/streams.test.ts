import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { describe, it } from 'node:test';
import { MusterError } from '../../../src/kit/errors.js';
import { implement } from '../../../src/rpc/implementation.js';
import { receive, SEND_WINDOW_MESSAGES, SendWindow, untilAborted } from '../../../src/rpc/streams.js';
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

describe('receiving', () => {
  const explain = (error: unknown): unknown => error;
  const open = (): PassThrough => {
    const source = new PassThrough({ objectMode: true });
    source.on('error', () => undefined);
    return source;
  };
  const EVENTS = ['readable', 'end', 'close'] as const;
  const listeners = (source: PassThrough): number[] => EVENTS.map((event) => source.listenerCount(event));
  const rest = async (messages: AsyncIterable<unknown>): Promise<unknown[]> => {
    const seen: unknown[] = [];
    for await (const message of messages) seen.push(message);
    return seen;
  };

  it('gives what comes, in order, and ends with the stream', async () => {
    const source = open();
    const before = listeners(source);
    const seen = rest(receive(source, { explain }));
    source.write(1);
    await new Promise((resolve) => setImmediate(resolve));
    source.write(2);
    source.end(3);
    assert.deepEqual(await seen, [1, 2, 3]);
    assert.deepEqual(listeners(source), before);
  });

  it('gives what came before a failure, then the failure as it is explained', async () => {
    const source = open();
    const messages = receive(source, { explain: (error) => new Error(`so: ${String(error)}`) });
    source.write(1);
    assert.deepEqual(await messages.next(), { done: false, value: 1 });
    source.write(2);
    // As grpc-js does: the end of the messages, and in the same breath the failure.
    source.end();
    source.emit('error', 'broken');
    assert.deepEqual(await messages.next(), { done: false, value: 2 });
    await assert.rejects(messages.next(), /so: broken/);
    assert.equal(source.destroyed, true);
    assert.deepEqual(await messages.next(), { done: true, value: undefined });
  });

  it('fails where the stream is closed before its end, however early', async () => {
    const source = open();
    const messages = receive(source, { explain });
    const waiting = messages.next();
    source.destroy();
    await assert.rejects(waiting, /closed before its end/);
    await assert.rejects(receive(source, { explain }).next(), /closed before its end/);
    const failed = open();
    failed.destroy(new Error('broken'));
    await new Promise((resolve) => setImmediate(resolve));
    await assert.rejects(receive(failed, { explain }).next(), /broken/);
  });

  it('does not end a stream that is left early, nor hang on to it', async () => {
    const source = open();
    const before = listeners(source);
    source.write(1);
    source.write(2);
    for await (const message of receive(source, { explain })) {
      assert.equal(message, 1);
      break;
    }
    assert.equal(source.destroyed, false);
    assert.deepEqual(listeners(source), before);
    source.end();
    assert.deepEqual(await rest(receive(source, { explain })), [2]);
    assert.deepEqual(await rest(receive(source, { explain })), [], 'one that has ended is at its end');
  });

  it('tells what is wrong with a message, and waits at the end where it is told to', async () => {
    const source = open();
    const steps: string[] = [];
    const check = (message: unknown): unknown => {
      if (message === 'bad') throw new Error('it is bad');
      return message;
    };
    const beforeEnd = (): Promise<void> => {
      steps.push('end');
      return Promise.resolve();
    };
    source.write('good');
    const seen = rest(receive(source, { explain, check, beforeEnd }));
    source.end();
    assert.deepEqual([await seen, steps], [['good'], ['end']]);
    const wrong = open();
    wrong.end('bad');
    await assert.rejects(rest(receive(wrong, { explain, check, beforeEnd })), /it is bad/);
    assert.deepEqual(steps, ['end']);
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
