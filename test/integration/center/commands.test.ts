import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import {
  CommandUpdate,
  RunCommandRequest,
  TailLogRequest,
  type Command,
  type UploadOutputRequest,
} from '../../../generated/muster/v1/center.js';
import type { MusterError } from '../../../src/kit/errors.js';
import { TestCenter } from '../../support/center.js';
import { FakeAgent, joinAs, type AgentStream } from '../../support/fake-agent.js';
import { failureOf } from '../../support/rpc.js';
import { waitFor } from '../../support/waiting.js';

interface Fixture {
  readonly center: TestCenter;
  readonly agent: FakeAgent;
  readonly stream: AgentStream;
}

/** A center with one agent that runs `orders`, and does with a command what the test says. */
async function fixture(t: TestContext): Promise<Fixture> {
  const center = await TestCenter.start(t, { heartbeatMs: 60_000 });
  const caPem = await readFile(join(center.data, 'ca', 'ca.pem'), 'utf8');
  const identified = await joinAs(center.address, { token: await center.token(), name: 'a', caPem });
  const agent = new FakeAgent(t, center.address, 'a', identified);
  const stream = await agent.connect();
  await stream.report({ service: 'orders', state: 'SERVICE_STATE_RUNNING' });
  await waitFor('the instance', () => center.operator.getInstance({ machine: 'a', service: 'orders' }));
  return { center, agent, stream };
}

function order(fields: Partial<RunCommandRequest> = {}): RunCommandRequest {
  return RunCommandRequest.fromPartial({ machine: 'a', service: 'orders', action: 'ACTION_RESTART', ...fields });
}

function update(command: string, outcome: CommandUpdate['outcome'], message = ''): CommandUpdate {
  const started = outcome === 'OUTCOME_STARTED' ? new Date() : undefined;
  return CommandUpdate.fromPartial({ command, outcome, message, started, action: 'ACTION_RESTART', service: 'orders' });
}

async function tell(stream: AgentStream, command: string, outcome: CommandUpdate['outcome']): Promise<void> {
  await stream.send({ $case: 'commandUpdate', value: update(command, outcome) });
}

async function until(center: TestCenter, id: string, outcome: Command['outcome']): Promise<Command> {
  return waitFor(`${id} to be ${outcome}`, async () => {
    const command = await center.operator.getCommand({ id });
    return command.outcome === outcome && command;
  });
}

describe('commands', () => {
  it('are sent, followed to their end, and acknowledged once that is durable', async (t) => {
    const { center, stream } = await fixture(t);
    const { id } = await center.operator.runCommand(order({ reason: 'because' }));
    const seen: string[] = [];
    const watching = (async () => {
      for await (const command of center.operator.watchCommand({ id })) seen.push(command.outcome);
    })();
    const received = await stream.awaited('command');
    assert.deepEqual([received.command, received.action, received.service], [id, 'ACTION_RESTART', 'orders']);
    assert.ok((received.expiresIn?.seconds ?? 0) > 50);
    await tell(stream, id, 'OUTCOME_STARTED');
    await tell(stream, id, 'OUTCOME_SUCCEEDED');
    await stream.awaited('commandAck', ({ command }) => command === id);
    await watching;
    assert.equal(seen.at(-1), 'OUTCOME_SUCCEEDED');
    const { commands } = await center.operator.listCommands({ pageSize: 0, pageToken: '', machine: '', service: '' });
    assert.deepEqual(
      commands.map(({ reason, createdBy, machineName }) => [reason, createdBy, machineName]),
      [['because', 'operator local', 'a']],
    );
  });

  it('are the same for the same request id, also of two at once and after a restart', async (t) => {
    const { center, stream } = await fixture(t);
    const [one, two] = await Promise.all([1, 2].map(() => center.operator.runCommand(order({ requestId: 'r1' }))));
    assert.equal(one?.id, two?.id);
    await stream.leave();
    await center.stop();
    await center.start();
    assert.equal((await center.operator.runCommand(order({ requestId: 'r1' }))).id, one?.id);
    assert.notEqual((await center.operator.runCommand(order({ requestId: 'r2' }))).id, one?.id);
  });

  it('wait for a machine that is away, and expire there', async (t) => {
    const { center, stream, agent } = await fixture(t);
    await stream.leave();
    await waitFor('offline', async () => !(await center.operator.getMachine({ machine: 'a' })).online);
    const short = await center.operator.runCommand(order({ expiresIn: { seconds: 0, nanos: 300_000_000 } }));
    const long = await center.operator.runCommand(order());
    assert.deepEqual([short.outcome, long.outcome], ['OUTCOME_QUEUED', 'OUTCOME_QUEUED']);
    await until(center, short.id, 'OUTCOME_EXPIRED');
    const back = await agent.connect();
    await back.awaited('command', ({ command }) => command === long.id);
    assert.equal(back.all('command').length, 1);
  });

  it('are unknown while contact is lost, then what the agent says; sent again only if it never had them', async (t) => {
    const { center, stream, agent } = await fixture(t);
    const sent = await center.operator.runCommand(order());
    const ran = await center.operator.runCommand(order({ action: 'ACTION_STOP' }));
    await stream.awaited('command', ({ command }) => command === ran.id);
    await tell(stream, ran.id, 'OUTCOME_STARTED');
    await until(center, ran.id, 'OUTCOME_STARTED');
    stream.cut();
    const lost = await until(center, ran.id, 'OUTCOME_UNKNOWN');
    assert.ok(lost.unknownSince);
    await until(center, sent.id, 'OUTCOME_UNKNOWN');
    const back = await agent.connect({ commands: [update(ran.id, 'OUTCOME_SUCCEEDED')] });
    await until(center, ran.id, 'OUTCOME_SUCCEEDED');
    await back.awaited('commandAck', ({ command }) => command === ran.id);
    await back.awaited('command', ({ command }) => command === sent.id);
    assert.equal(back.all('command').length, 1);
  });

  it('are never sent again once they were seen to start', async (t) => {
    const { center, stream, agent } = await fixture(t);
    const { id } = await center.operator.runCommand(order());
    await stream.awaited('command');
    await tell(stream, id, 'OUTCOME_STARTED');
    await until(center, id, 'OUTCOME_STARTED');
    stream.cut();
    await until(center, id, 'OUTCOME_UNKNOWN');
    const back = await agent.connect({ commands: [] });
    await waitFor('that it is given up', async () => (await center.operator.getCommand({ id })).ended !== undefined);
    assert.equal((await center.operator.getCommand({ id })).outcome, 'OUTCOME_UNKNOWN');
    assert.equal(back.all('command').length, 0);
  });

  it('survive a restart of the center at every step', async (t) => {
    const { center, stream, agent } = await fixture(t);
    const { id } = await center.operator.runCommand(order());
    await stream.awaited('command');
    await tell(stream, id, 'OUTCOME_STARTED');
    await until(center, id, 'OUTCOME_STARTED');
    await center.stop();
    await center.start();
    assert.equal((await center.operator.getCommand({ id })).outcome, 'OUTCOME_UNKNOWN');
    const copy = new FakeAgent(t, center.address, 'a', { machine: agent.machine, identity: agent.identity, site: '' });
    const back = await copy.connect({ sessionEpoch: 9, commands: [update(id, 'OUTCOME_STARTED')] });
    await until(center, id, 'OUTCOME_STARTED');
    await tell(back, id, 'OUTCOME_FAILED');
    await back.awaited('commandAck');
    assert.equal((await center.operator.getCommand({ id })).outcome, 'OUTCOME_FAILED');
  });

  it('can be cancelled before they start, and not after', async (t) => {
    const { center, stream } = await fixture(t);
    const sent = await center.operator.runCommand(order());
    await stream.awaited('command');
    await center.operator.cancelCommand({ id: sent.id });
    await stream.awaited('cancel', ({ command }) => command === sent.id);
    await tell(stream, sent.id, 'OUTCOME_CANCELLED');
    await until(center, sent.id, 'OUTCOME_CANCELLED');
    const ran = await center.operator.runCommand(order());
    await tell(stream, ran.id, 'OUTCOME_STARTED');
    await until(center, ran.id, 'OUTCOME_STARTED');
    assert.equal((await failureOf(center.operator.cancelCommand({ id: ran.id }))).reason, 'COMMAND_STARTED');
  });

  it('that were sent to a machine that is away can be cancelled: they never run, whatever restarts meanwhile', async (t) => {
    const { center, agent, stream } = await fixture(t);
    const lost = await center.operator.runCommand(order());
    const waiting = await center.operator.runCommand(order());
    await stream.awaited('command', ({ command }) => command === waiting.id);
    stream.cut();
    await until(center, waiting.id, 'OUTCOME_UNKNOWN');
    for (const { id } of [lost, waiting]) await center.operator.cancelCommand({ id });
    await center.stop();
    await center.start();
    const { machine, identity, epoch } = agent;
    const back = new FakeAgent(t, center.address, 'a', { machine, identity, site: '' });
    const again = await back.connect({ sessionEpoch: epoch + 1, commands: [update(waiting.id, 'OUTCOME_DELIVERED')] });
    await again.awaited('cancel', ({ command }) => command === waiting.id);
    const { message } = await until(center, lost.id, 'OUTCOME_CANCELLED');
    assert.match(message, /cancelled by operator local.*will not run/);
    await tell(again, waiting.id, 'OUTCOME_CANCELLED');
    await until(center, waiting.id, 'OUTCOME_CANCELLED');
    assert.deepEqual(again.all('command'), []);
  });

  it('are refused for what is not there, with the nearest name', async (t) => {
    const { center } = await fixture(t);
    const refusal = async (fields: Partial<RunCommandRequest>): Promise<MusterError> =>
      failureOf(center.operator.runCommand(order(fields)));
    assert.match((await refusal({ service: 'order' })).message, /Did you mean "orders"/);
    assert.equal((await refusal({ machine: 'b' })).code, 'not_found');
    assert.equal((await refusal({ action: 'ACTION_UNSPECIFIED' })).code, 'invalid');
    assert.equal((await failureOf(center.operator.getCommand({ id: 'c-none' }))).code, 'not_found');
  });

  it('are not moved by reports of another machine', async (t) => {
    const { center, stream } = await fixture(t);
    const caPem = await readFile(join(center.data, 'ca', 'ca.pem'), 'utf8');
    const identified = await joinAs(center.address, { token: await center.token(), name: 'b', caPem });
    const other = await new FakeAgent(t, center.address, 'b', identified).connect();
    const { id } = await center.operator.runCommand(order());
    await stream.awaited('command');
    await tell(other, id, 'OUTCOME_SUCCEEDED');
    await other.beat();
    await tell(stream, id, 'OUTCOME_FAILED');
    assert.equal((await until(center, id, 'OUTCOME_FAILED')).outcome, 'OUTCOME_FAILED');
    assert.deepEqual(other.all('commandAck'), []);
  });
});

async function all<T>(stream: AsyncIterable<T>): Promise<T[]> {
  const items: T[] = [];
  for await (const item of stream) items.push(item);
  return items;
}

describe('log relay', () => {
  const line = (text: string) => ({
    machineName: '',
    service: '',
    file: 'orders.log',
    text,
    notice: false,
    position: '',
  });

  async function* upload(command: string, count: number, sent: { count: number }): AsyncGenerator<UploadOutputRequest> {
    await Promise.resolve();
    for (let index = 0; index < count; index += 1) {
      sent.count += 1;
      yield { command: index === 0 ? command : '', lines: [line(`${index} ${'x'.repeat(1000)}`)], hits: [], error: '' };
    }
  }

  it('passes lines on in order and ends with the agent', async (t) => {
    const { center, stream, agent } = await fixture(t);
    const texts: string[] = [];
    const reading = (async () => {
      for await (const { text, machineName } of center.operator.tailLog(
        TailLogRequest.fromPartial({ machine: 'a', service: 'orders', lines: 5 }),
      )) {
        texts.push(`${machineName} ${text.split(' ')[0] ?? ''}`);
      }
    })();
    const { command, tail } = await stream.awaited('command');
    assert.deepEqual(tail, { lines: 5, follow: false, position: '', file: '' });
    await agent.client.uploadOutput(upload(command, 3, { count: 0 }));
    await reading;
    assert.deepEqual(texts, ['a 0', 'a 1', 'a 2']);
  });

  it('holds a fast agent back for an operator who does not read, and tells the agent when the operator leaves', async (t) => {
    const { center, stream, agent } = await fixture(t);
    const controller = new AbortController();
    const lines = center.operator
      .tailLog(TailLogRequest.fromPartial({ machine: 'a', service: 'orders', lines: 5, follow: true }), {
        signal: controller.signal,
      })
      [Symbol.asyncIterator]();
    const first = lines.next();
    const { command } = await stream.awaited('command');
    const sent = { count: 0 };
    const uploading = failureOf(agent.client.uploadOutput(upload(command, 100_000, sent)));
    assert.equal((await first).done, false);
    // All of it is in this process: while these calls go to and fro, an agent that is not held back sends more.
    const roundTrips = async (): Promise<void> => {
      for (let trip = 0; trip < 100; trip += 1) await center.operator.getMachine({ machine: 'a' });
    };
    await waitFor('the agent to be held back', async () => {
      const before = sent.count;
      await roundTrips();
      return before > 1 && sent.count === before;
    });
    const held = sent.count;
    assert.ok(held < 2000, `${held} messages of 1 KB were taken for a reader who read one`);
    for (let read = 1; read <= held && sent.count === held; read += 1) await lines.next();
    assert.ok(sent.count > held, 'it goes on for a reader who reads on');
    controller.abort();
    assert.equal((await uploading).reason, 'OUTPUT_UNWANTED');
    await stream.awaited('cancel', (cancel) => cancel.command === command);
  });

  it('says what the agent says went wrong, and refuses a machine that is away or another machine', async (t) => {
    const { center, stream, agent } = await fixture(t);
    const wish = TailLogRequest.fromPartial({ machine: 'a', service: 'orders' });
    const reading = failureOf(all(center.operator.tailLog(wish)));
    const { command } = await stream.awaited('command');
    const caPem = await readFile(join(center.data, 'ca', 'ca.pem'), 'utf8');
    const identified = await joinAs(center.address, { token: await center.token(), name: 'b', caPem });
    const other = new FakeAgent(t, center.address, 'b', identified);
    assert.equal(
      (await failureOf(other.client.uploadOutput(upload(command, 1, { count: 0 })))).reason,
      'NOT_YOUR_COMMAND',
    );
    await agent.client.uploadOutput(
      (async function* () {
        await Promise.resolve();
        yield { command, lines: [], hits: [], error: 'there is no log yet' };
      })(),
    );
    assert.match((await reading).message, /there is no log yet/);
    await stream.leave();
    await waitFor('offline', async () => !(await center.operator.getMachine({ machine: 'a' })).online);
    const away = await failureOf(all(center.operator.tailLog(wish)));
    assert.equal(away.reason, 'MACHINE_OFFLINE');
  });
});
