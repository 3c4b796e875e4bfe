import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { runCli } from '../../../src/cli/program.js';
import { fakeIo, type FakeIo } from '../../support/io.js';
import { startQueueFixture, TOPIC, type QueueFixture } from '../../support/queue-client.js';
import { temporaryDirectory } from '../../support/rpc.js';
import { waitFor } from '../../support/waiting.js';

interface Ran {
  readonly status: number;
  readonly io: FakeIo;
}

interface Terminal extends QueueFixture {
  readonly home: string;
  /** Runs a command on the queue; `input` is its standard input. */
  readonly run: (argv: readonly string[], options?: { input?: string; signal?: AbortSignal }) => Promise<Ran>;
  /** The JSON documents a command prints, which must succeed. */
  readonly json: (...argv: string[]) => Promise<Record<string, unknown>[]>;
}

async function start(t: TestContext): Promise<Terminal> {
  const fixture = await startQueueFixture(t);
  const home = await temporaryDirectory(t);
  const run: Terminal['run'] = async (argv, options = {}) => {
    const io = fakeIo({ home, env: { MUSTER_QUEUE: fixture.address }, ...options });
    const status = await runCli(argv, io);
    return { status, io };
  };
  const json: Terminal['json'] = async (...argv) => {
    const { status, io } = await run([...argv, '--json']);
    assert.equal(status, 0, io.complained());
    return io
      .written()
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  };
  return { ...fixture, home, run, json };
}

describe("the queue's commands", () => {
  it('make, show, change, list and remove a topic', async (t) => {
    const { run, json } = await start(t);
    const settings = ['--max-bytes', '2MB', '--on-full', 'drop-oldest', '--publishers', 'shop-*, till'];
    const [made] = await json('topic', 'create', 'mail', '--min-retention', '1h', ...settings);
    assert.deepEqual(made?.['publishers'], ['shop-*', 'till']);
    assert.equal(made['maxBytes'], 2_000_000);
    const [changed] = await json('topic', 'update', 'mail', '--max-age', '2h', '--publishers', '');
    assert.equal(changed?.['maxBytes'], 2_000_000);
    assert.equal(changed['onFull'], 'ON_FULL_DROP_OLDEST');
    assert.deepEqual(changed['publishers'], []);
    assert.equal(changed['revision'], 2);
    const { io: shown } = await run(['topic', 'show', 'mail']);
    assert.match(shown.written(), /kept 1h[\s\S]*limits +2.0 MB, 2h; over them the oldest are dropped/);
    const { io: listed } = await run(['topics']);
    assert.match(listed.written(), /TOPIC[\s\S]*mail[\s\S]*orders/);
    const [removed] = await json('topic', 'rm', 'mail');
    assert.deepEqual(removed, { topic: 'mail', removed: true });
    const { status, io } = await run(['topic', 'show', 'mail']);
    assert.equal(status, 1);
    assert.match(io.complained(), /no topic "mail"/);
    const gone = await run(['topic', 'rm', 'mail']);
    assert.match(gone.io.complained(), /no topic "mail"[^]*"muster topics" lists those there are/);
    assert.doesNotMatch(gone.io.complained(), /To make it/);
  });

  it('say that what is to be made is there already, and that nothing is to be changed', async (t) => {
    const { run } = await start(t);
    const { io } = await run(['topic', 'create', TOPIC]);
    assert.match(io.complained(), /orders was there already/);
    assert.doesNotMatch((await run(['subscription', 'create', TOPIC, 'mail'])).io.complained(), /already/);
    assert.match((await run(['subscription', 'create', TOPIC, 'mail'])).io.complained(), /mail was there already/);
    const updated = await run(['topic', 'update', TOPIC]);
    assert.equal(updated.status, 2);
    assert.match(updated.io.complained(), /nothing to change/);
    assert.equal((await run(['subscription', 'update', TOPIC, 'mail'])).status, 2);
    assert.equal((await run(['subscription', 'update', TOPIC, 'mail', '--pause', '--resume'])).status, 2);
  });

  it('refuse to remove a topic in which messages wait, unless forced', async (t) => {
    const { run, subscription } = await start(t);
    await subscription('mail');
    assert.equal((await run(['publish', TOPIC, 'a'])).status, 0);
    const { status, io } = await run(['topic', 'rm', TOPIC, '--json']);
    assert.equal(status, 1);
    const { error } = JSON.parse(io.complained()) as { error: { reason: string; message: string } };
    assert.equal(error.reason, 'NOT_EMPTY');
    assert.match(error.message, /--force/);
    assert.equal((await run(['topic', 'rm', TOPIC, '--force'])).status, 0);
  });

  it('make, show, change, move and remove a subscription', async (t) => {
    const { run, json } = await start(t);
    const [made] = await json(
      'subscription',
      'create',
      TOPIC,
      'mail',
      '--lease',
      '5s',
      '--ordered',
      '--backoff-max',
      '1m',
    );
    assert.equal(made?.['ordered'], true);
    const [changed] = await json('subscription', 'update', TOPIC, 'mail', '--max-attempts', '3', '--pause');
    assert.deepEqual([changed?.['maxAttempts'], changed?.['paused'], changed?.['lease']], [3, true, '5s']);
    const { io } = await run(['subscription', 'show', TOPIC, 'mail']);
    assert.match(
      io.written(),
      /lease +5s\n +attempts +3, then a dead letter; 1s to 1m, x2 between them[\s\S]*it is paused/,
    );
    const [resumed] = await json('subscription', 'update', TOPIC, 'mail', '--resume');
    assert.equal(resumed?.['paused'], false);
    const back = await run(['subscription', 'seek', TOPIC, 'mail', '--to', '1h', '--dry-run']);
    assert.match(back.io.complained(), /^Nothing that old is stored: .*--min-retention/);
    await run(['publish', TOPIC, 'a', 'b', 'c']);
    const [would] = await json('subscription', 'seek', TOPIC, 'mail', '--to', 'latest', '--dry-run');
    assert.deepEqual(would, { sequence: 4, redelivered: 0, skipped: 3 });
    const beyond = await run(['subscription', 'seek', TOPIC, 'mail', '--to', '3000', '--dry-run']);
    assert.match(beyond.io.complained(), /behind the newest message \(the newest message is 3\): [^]*3 messages/);
    const [moved] = await json('subscription', 'seek', TOPIC, 'mail', '--to', '3');
    assert.deepEqual(moved, { sequence: 3, redelivered: 0, skipped: 2 });
    const { io: listed } = await run(['subscriptions']);
    assert.match(listed.written(), /orders +mail +5s +3 +1s to 1m, x2 +by key +never +no/);
    const refused = await run(['subscription', 'rm', TOPIC, 'mail']);
    assert.equal(refused.status, 1);
    assert.match(refused.io.complained(), /has 1 unsettled message and 0 dead letters: .*--force/);
    const removed = await run(['subscription', 'rm', TOPIC, 'mail', '--force']);
    assert.equal(removed.io.written(), 'mail of orders is gone with 1 unsettled message and 0 dead letters\n');
    assert.equal((await run(['subscription', 'seek', TOPIC, 'mail', '--to', 'noon'])).status, 2);
  });

  it('publish words, the lines of standard input, and files whole or by lines', async (t) => {
    const { run, json, home } = await start(t);
    const file = join(home, 'content');
    await writeFile(file, Buffer.from('first\nsecond\n'));
    const { io } = await run(['publish', TOPIC, 'hello', 'world', '--attribute', 'a=1', '--key', 'k']);
    assert.equal(io.written(), '2 messages in orders, sequences 1 to 2\n');
    const piped = await run(['publish', TOPIC], { input: 'one\n\nthree\n' });
    assert.equal(piped.io.written(), '3 messages in orders, sequences 3 to 5\n');
    assert.equal((await run(['publish', TOPIC, '--file', file])).status, 0);
    assert.equal((await run(['publish', TOPIC, '--file', file, '--lines'])).status, 0);
    const [twice] = await json('publish', TOPIC, 'x', '--dedupe-id', 'd');
    const [again] = await json('publish', TOPIC, 'x', '--dedupe-id', 'd');
    assert.deepEqual([twice?.['stored'], again?.['stored'], again?.['duplicates']], [1, 0, 1]);
    const [later] = await json('publish', TOPIC, 'y', '--delay', '1h');
    assert.equal(later?.['delayed'], 1);
    const { io: when } = await run(['publish', TOPIC, 'y', 'z', '--delay', '1h']);
    assert.match(when.written(), /^2 messages stored, to enter orders at \d/);
    assert.match(when.complained(), /orders has no subscription: what is in it is kept/);
    const several = await run(['publish', TOPIC, 'x', 'y', '--dedupe-id', 'e']);
    assert.equal(several.status, 2);
    assert.match(several.io.complained(), /--dedupe-id is for one message/);
    assert.equal((await run(['publish', TOPIC, '--dedupe-id', 'e'], { input: 'x\ny\n' })).status, 2);
    assert.equal((await json('publish', TOPIC, 'x', '--dedupe-id', 'e'))[0]?.['duplicates'], 0);
    const { io: missing, status } = await run(['publish', TOPIC, '--file', join(home, 'nowhere')]);
    assert.equal(status, 2);
    assert.match(missing.complained(), /there is no such file/);
  });

  it('print messages, and acknowledge what was printed', async (t) => {
    const { run, json, stats } = await start(t);
    await run(['subscription', 'create', TOPIC, 'mail']);
    await run(['publish', TOPIC, 'hello', '--attribute', 'a=1', '--key', 'k']);
    await run(['publish', TOPIC, 'evil \u001b[2J', 'third']);
    const peeked = await run(['peek', TOPIC]);
    assert.match(peeked.io.written(), /1 +\S+ +key k, a=1 +hello/);
    const looked = await run(['subscribe', TOPIC, 'mail', '--count', '1', '--no-ack']);
    assert.equal(looked.io.written(), 'hello\n');
    const [first] = await json('subscribe', TOPIC, 'mail', '-n', '1');
    const { published, ...rest } = first ?? {};
    assert.ok(typeof published === 'string');
    assert.deepEqual(rest, {
      sequence: 1,
      attempt: 1,
      payload: 'hello',
      attributes: { a: '1' },
      key: 'k',
      dedupeId: '',
    });
    await stats('mail', ({ backlog }) => backlog === 2);
    const { io } = await run(['subscribe', TOPIC, 'mail', '-n', '2', '--verbose']);
    assert.equal(io.written(), 'evil \\x1b[2J\nthird\n');
    assert.match(io.complained(), /2, attempt 1/);
    await stats('mail', ({ backlog, consumers }) => backlog === 0 && consumers.length === 0);
  });

  it('go on until they are stopped, and make the subscription when told to', async (t) => {
    const { run, library, stats } = await start(t);
    await library.publish(TOPIC, ['a', 'b']);
    const stop = new AbortController();
    const io = fakeIo({ home: '/', env: {}, signal: stop.signal });
    const running = run(['subscribe', TOPIC, 'new', '--create', '--from', 'earliest'], { signal: stop.signal });
    await stats('new', ({ backlog }) => backlog === 0);
    await library.publish(TOPIC, 'c');
    await stats('new', ({ backlog }) => backlog === 0);
    stop.abort(new Error('SIGINT'));
    const ran = await running;
    assert.equal(ran.status, 0, ran.io.complained());
    assert.equal(ran.io.written(), 'a\nb\nc\n');
    assert.equal(io.written(), '');
  });

  it('pull a few, and settle them or not', async (t) => {
    const { run, json, stats } = await start(t);
    await run(['subscription', 'create', TOPIC, 'mail']);
    assert.match((await run(['pull', TOPIC, 'mail'])).io.complained(), /Nothing is deliverable now/);
    await run(['publish', TOPIC, 'a', 'b', 'c']);
    const { io } = await run(['pull', TOPIC, 'mail']);
    assert.equal(io.written(), 'a\n');
    assert.match(io.complained(), /lease \S+[\s\S]*Queue\/Settle/);
    const [pulled] = await json('pull', TOPIC, 'mail', '-n', '10', '--ack', '--wait', '1s');
    assert.equal((pulled?.['messages'] as unknown[]).length, 2);
    await stats('mail', ({ backlog, leased }) => backlog === 1 && leased === 1);
  });

  it('print a payload as JSON the same way everywhere: text, or base 64', async (t) => {
    const { json, library, subscription } = await start(t);
    await subscription('mail');
    await library.publish(TOPIC, ['text', Buffer.from([0xff])]);
    const contents = (messages: unknown) =>
      (messages as Record<string, unknown>[]).map(({ payload, payloadBase64, key }) => [payload, payloadBase64, key]);
    const expected = [
      ['text', undefined, ''],
      [undefined, '/w==', ''],
    ];
    assert.deepEqual(contents((await json('peek', TOPIC))[0]?.['messages']), expected);
    assert.deepEqual(contents((await json('pull', TOPIC, 'mail', '-n', '2'))[0]?.['messages']), expected);
    await json('subscription', 'seek', TOPIC, 'mail', '--to', 'earliest');
    assert.deepEqual(contents(await json('subscribe', TOPIC, 'mail', '-n', '2')), expected);
  });

  it('say that nothing comes because the subscription is paused', async (t) => {
    const { run } = await start(t);
    await run(['subscription', 'create', TOPIC, 'mail', '--pause']);
    const pulled = await run(['pull', TOPIC, 'mail', '--wait', '10ms']);
    assert.match(pulled.io.complained(), /mail of orders is paused/);
    assert.equal((await run(['subscribe', TOPIC, 'mail', '--from', 'earliest'])).status, 2);
    assert.equal((await run(['subscribe', TOPIC, 'mail', '-n', '0'])).status, 2);
    assert.equal((await run(['pull', TOPIC, 'mail', '--wait', '61s'])).status, 2);
    assert.equal((await run(['subscription', 'update', TOPIC, 'mail', '--backoff-multiplier', 'x'])).status, 2);
  });

  it('list, replay and purge dead letters', async (t) => {
    const { run, json, library, subscription, stats } = await start(t);
    await subscription('mail');
    await library.publish(TOPIC, ['a', 'b', 'c']);
    let seen = 0;
    for await (const message of library.subscribe(TOPIC, 'mail')) {
      await message.nacked({ deadLetter: true, reason: 'no good' });
      seen += 1;
      if (seen === 3) break;
    }
    const { io } = await run(['dead-letters', TOPIC, 'mail']);
    assert.match(io.written(), /1 +\S+ +\S+ +1 +no good +a/);
    assert.equal((await run(['dead-letters', TOPIC, 'mail', 'purge'])).status, 2);
    assert.equal((await run(['dead-letters', TOPIC, 'mail', 'bury'])).status, 2);
    const unknown = await run(['dead-letters', TOPIC, 'mail', 'replay', '--sequence', '99']);
    assert.equal(unknown.status, 1);
    assert.match(unknown.io.complained(), /mail of orders has no dead letter 99/);
    assert.deepEqual(await json('dead-letters', TOPIC, 'mail', '--sequence', '99'), [{ deadLetters: [] }]);
    const [replayed] = await json('dead-letters', TOPIC, 'mail', 'replay', '--sequence', '2');
    assert.equal(replayed?.['replayed'], 1);
    await stats('mail', ({ backlog, dead }) => backlog === 1 && dead === 2);
    const [purged] = await json('dead-letters', TOPIC, 'mail', 'purge', '--all');
    assert.ok(Number(purged?.['purged']) >= 2);
  });

  it('show what waits where: one document, or a screen drawn anew on a terminal', async (t) => {
    const { run, json, subscription, library, home, address } = await start(t);
    await subscription('mail');
    await library.publish(TOPIC, ['a', 'b']);
    const [document] = await json('stats');
    const [topic] = document?.['topics'] as { messages: number; delayed: number; subscriptions: { dead: number }[] }[];
    assert.deepEqual([topic?.messages, topic?.delayed, topic?.subscriptions[0]?.dead], [2, 0, 0]);
    const { io } = await run(['stats', TOPIC]);
    assert.match(io.written(), /orders +2[\s\S]*\n {2}mail +2 +0/);
    const stop = new AbortController();
    const screen = { ...fakeIo({ home, env: { MUSTER_QUEUE: address }, signal: stop.signal }), terminal: true };
    const running = runCli(['stats'], screen);
    await waitFor('the screen', () => screen.written().includes('mail'));
    stop.abort(new Error('SIGINT'));
    assert.equal(await running, 0);
    assert.ok(screen.written().startsWith('\u001b[H\u001b[2J'));
  });

  it('make any call by hand: the queue is asked for its own', async (t) => {
    const { json, run, queue } = await start(t);
    const batch = { topic: TOPIC, messages: [{ payload: Buffer.from('a').toString('base64') }] };
    const [published] = await json('call', 'Queue/Publish', JSON.stringify(batch));
    assert.equal(published?.['firstSequence'], '1');
    assert.match((await run(['call', '--list', 'Queue'])).io.written(), /muster\.v1\.Queue\/PublishStream/);
    const described = (await run(['call', '--describe', 'Queue/Publish'])).io.written();
    assert.match(described, /message muster\.v1\.Message \{[^]*message muster\.v1\.Duplicate \{/);
    assert.match(described, /"messages": \[\s*\{\s*"payload": ""/);
    const wrong = await run(['call', 'Queue/GetTopic', '{"subject":"orders"}']);
    assert.match(wrong.io.complained(), /Its fields are topic\./);
    const named = await run(['--socket', queue.ready.socket, 'call', 'muster.v1.Queue/GetTopic', '{"topic":"none"}']);
    assert.equal(named.status, 1);
    assert.match(named.io.complained(), /no topic "none"/);
  });

  it('say what to do where there is no queue, and where it does not answer', async (t) => {
    const home = await temporaryDirectory(t);
    const nowhere = fakeIo({ home });
    assert.equal(await runCli(['topics'], nowhere), 1);
    assert.match(nowhere.complained(), /no queue found on this machine.*muster queue/);
    const away = fakeIo({ home });
    assert.equal(await runCli(['topics', '--queue', `unix:${join(home, 'queue.sock')}`], away), 1);
    assert.match(away.complained(), /queue\.sock/);
    const misnamed: readonly (readonly [string, RegExp, number])[] = [
      ['127.0.0.1:7600', /127\.0\.0\.1:7600 is on the network.*muster login/, 1],
      ['main', /"main" is a queue that only a center knows/, 1],
      ['unix:', /names no socket/, 2],
    ];
    for (const [queue, said, expected] of misnamed) {
      const io = fakeIo({ home });
      assert.equal(await runCli(['topics', '--queue', queue], io), expected);
      assert.match(io.complained(), said);
    }
    for (const words of [
      ['subscribe', 'orders', 'mail'],
      ['publish', 'orders', 'x'],
    ]) {
      const io = fakeIo({ home, env: { MUSTER_QUEUE: join(home, 'queue.sock') } });
      assert.equal(await runCli(words, io), 1);
      assert.match(io.complained(), /queue\.sock/);
    }
  });
});
