import assert from 'node:assert/strict';
import { join } from 'node:path';
import { PassThrough, Readable, Writable } from 'node:stream';
import { describe, it, type TestContext } from 'node:test';
import { runCall, type CallRequest } from '../../../src/cli/call.js';
import { silentLogger } from '../../../src/kit/logger.js';
import { openChannel, type Channel } from '../../../src/rpc/client.js';
import { RpcServer } from '../../../src/rpc/server.js';
import { failureOf, temporaryDirectory } from '../../support/rpc.js';
import { surveyDescriptors, surveyImplementation } from '../../support/survey.js';
import { waitFor } from '../../support/waiting.js';

async function survey(t: TestContext): Promise<Channel> {
  const directory = await temporaryDirectory(t);
  const server = new RpcServer({
    services: [surveyImplementation],
    authorize: () => undefined,
    logger: silentLogger,
    descriptors: await surveyDescriptors(),
  });
  t.after(() => server.drain(0));
  const { address } = await server.listen({
    kind: 'unix',
    path: join(directory, 's'),
    principal: { kind: 'operator', name: 'me' },
  });
  const channel = openChannel({ address });
  t.after(() => {
    channel.close();
  });
  return channel;
}

class Output extends Writable {
  text = '';

  override _write(chunk: Buffer, _: string, done: () => void): void {
    this.text += chunk.toString('utf8');
    done();
  }
}

/** What `muster call` prints for a request. */
async function printed(
  channel: Channel,
  request: CallRequest,
  options: { stdin?: Readable; compact?: boolean } = {},
): Promise<string> {
  const stdout = new Output();
  const { stdin = Readable.from([]), compact } = options;
  await runCall({ channel, stdin, stdout, ...(compact === undefined ? {} : { compact }) }, request);
  return stdout.text;
}

const call = (method: string, json?: string): CallRequest => ({ kind: 'call', method, json });

describe('muster call', () => {
  it('calls a method with JSON and shows all of the answer', async (t) => {
    const channel = await survey(t);
    const json =
      '{"labels":{"a":"1"},"when":"2026-01-02T03:04:05Z","every":"90s","kind":"KIND_DEEP","number":"9007199254740993","blob":"AQI="}';
    const answer = JSON.parse(await printed(channel, call('test.survey.v1.Survey/Ask', json))) as Record<
      string,
      unknown
    >;
    assert.deepEqual(answer, { ...(JSON.parse(json) as object), nested: {}, subjects: [] });
  });

  it('prints one line where asked, and nothing a terminal would obey', async (t) => {
    const channel = await survey(t);
    const text = await printed(
      channel,
      call('Survey/Ask', JSON.stringify({ labels: { '\u202e': '\u009b31m\u001b[2J' } })),
      {
        compact: true,
      },
    );
    assert.equal(text.trimEnd().split('\n').length, 1);
    assert.doesNotMatch(text, /[\u001b\u0080-\u009f\u202e]/);
    assert.deepEqual((JSON.parse(text) as { labels: unknown }).labels, { '\u202e': '\u009b31m\u001b[2J' });
  });

  it('takes shorter names where they are clear', async (t) => {
    const channel = await survey(t);
    for (const name of [
      '/test.survey.v1.Survey/Ask',
      'test.survey.v1.Survey.Ask',
      'Survey/Ask',
      'survey/ask',
      'Ask',
      'v1.Survey.Ask',
    ]) {
      assert.match(await printed(channel, call(name)), /"kind": "KIND_UNSPECIFIED"/, name);
    }
    assert.match(
      (await failureOf(printed(channel, call('ServerReflectionInfo')))).message,
      /can mean .* or .*write it out/,
    );
  });

  it('holds a conversation: JSON lines in, JSON lines out, as they come', async (t) => {
    const channel = await survey(t);
    const stdin = new PassThrough();
    const stdout = new Output();
    const done = runCall({ channel, stdin, stdout }, call('AskAll'));
    for (const number of ['1', '2', '3']) {
      stdin.write(`{"number":"${number}"}\n\n`);
      await waitFor('the answer', () => stdout.text.includes(`"number":"${number}"`));
    }
    stdin.end();
    await done;
    assert.equal(stdout.text.trim().split('\n').length, 3);
  });

  it('ends a conversation with what is wrong in its input, naming the line', async (t) => {
    const channel = await survey(t);
    for (const bad of ['{"number":"1"}\n{nonsense\n', '{"number":"1"}\n{"numbre":2}\n']) {
      const failure = await failureOf(printed(channel, call('AskAll'), { stdin: Readable.from([bad]) }));
      assert.equal(failure.code, 'invalid');
    }
    const failure = await failureOf(printed(channel, call('AskAll'), { stdin: Readable.from(['{}\n{nonsense\n']) }));
    assert.match(failure.message, /line 2 of standard input is not JSON/);
  });

  it('reads the one message of a call from standard input for "-"', async (t) => {
    const channel = await survey(t);
    const stdin = (): Readable => Readable.from(['{"number":"7"}\n']);
    assert.match(await printed(channel, call('Ask', '-'), { stdin: stdin() }), /"number": "7"/);
    assert.match((await failureOf(printed(channel, call('Ask', '-')))).message, /standard input is empty/);
    const two = await failureOf(printed(channel, call('Ask', '-'), { stdin: Readable.from(['{}\n{}\n']) }));
    assert.match(two.message, /takes one message/);
  });

  it('takes the messages of a stream as an argument too', async (t) => {
    const channel = await survey(t);
    assert.equal(
      (await printed(channel, call('AskAll', '{"number":"1"}\n{"number":"2"}'))).trim().split('\n').length,
      2,
    );
  });

  it('says what is wrong with a name, with a field and with JSON', async (t) => {
    const channel = await survey(t);
    const messages = await Promise.all(
      [
        call('test.survey.v1.Survey/Akk'),
        call('Aks'),
        call('completely-different'),
        call('Ask', '{"lables":{}}'),
        call('Ask', '{"kind":"KIND_SHALLOW"}'),
        call('Ask', 'nonsense'),
      ].map(async (request) => (await failureOf(printed(channel, request))).message),
    );
    assert.match(messages[0] ?? '', /no method .* Did you mean "test\.survey\.v1\.Survey\/Ask"/);
    assert.match(messages[1] ?? '', /Did you mean "test\.survey\.v1\.Survey\/Ask"/);
    assert.match(messages[2] ?? '', /--list/);
    assert.match(messages[3] ?? '', /test\.survey\.v1\.Question.*Did you mean "labels"/);
    assert.match(messages[4] ?? '', /KIND_SHALLOW/);
    assert.match(messages[5] ?? '', /is not JSON/);
  });

  it('lists', async (t) => {
    const channel = await survey(t);
    const all = (await printed(channel, { kind: 'list' })).trim().split('\n');
    assert.ok(all.includes('test.survey.v1.Survey/AskAll') && all.includes('grpc.health.v1.Health/Check'));
    assert.deepEqual((await printed(channel, { kind: 'list', service: 'survey' })).trim().split('\n'), [
      'test.survey.v1.Survey/Ask',
      'test.survey.v1.Survey/AskAll',
    ]);
    assert.match(
      (await failureOf(printed(channel, { kind: 'list', service: 'none' }))).message,
      /there are .*test\.survey\.v1\.Survey/,
    );
  });

  it('describes, with the comments of the contract', async (t) => {
    const channel = await survey(t);
    const describing = (name: string): Promise<string> => printed(channel, { kind: 'describe', name });
    assert.match(
      await describing('test.survey.v1.Survey'),
      /\/\/ Asks, and.*service test\.survey\.v1\.Survey \{.*\/\/ Answers each.*rpc AskAll \(stream test\.survey\.v1\.Question\) returns \(stream/s,
    );
    const message = await describing('test.survey.v1.Question');
    for (const line of [
      '  // Names and values.',
      '  map<string, string> labels = 1;',
      '  map<string, test.survey.v1.Question.Nested> nested = 2;',
      '  google.protobuf.Timestamp when = 3;',
      '  oneof answer {',
      '    int64 number = 7;',
      '  repeated test.survey.v1.Subject subjects = 8;',
      '  optional uint32 weight = 9;',
    ]) {
      assert.ok(message.split('\n').includes(line), `${line} in\n${message}`);
    }
    assert.match(await describing('test.survey.v1.Kind'), /\/\/ The thorough kind\.\n {2}KIND_DEEP = 1;/);
    assert.match(await describing('Survey/Ask'), /A request to fill in:\n\{/);
    assert.match(
      (await failureOf(describing('test.survey.v1.Questoin'))).message,
      /Did you mean "test\.survey\.v1\.Question"/,
    );
  });
});
