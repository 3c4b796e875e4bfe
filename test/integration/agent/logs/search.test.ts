import assert from 'node:assert/strict';
import { appendFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { AgentService, SearchLocalLogsRequest } from '../../../../generated/muster/v1/agent.js';
import type { CommandUpdate, UploadOutputRequest } from '../../../../generated/muster/v1/center.js';
import { LogSearch, type LogHit, type SearchReport } from '../../../../generated/muster/v1/types.js';
import type { SearchLogs } from '../../../../src/agent/link/searches.js';
import { isCode, MusterError } from '../../../../src/kit/errors.js';
import type { Client } from '../../../../src/rpc/types.js';
import { FakeCenter, type FakeCenterOptions } from '../../../support/fake-center.js';
import { linkedAgent, temporaryData, writeIdentity } from '../../../support/linked-agent.js';
import { localAgent } from '../../../support/local-agent.js';
import { searchBench, type SearchBench } from '../../../support/searching.js';

/** The services `orders` and `web` write the same logs here. */
async function logsOf(t: TestContext): Promise<{ readonly b: SearchBench; readonly search: SearchLogs }> {
  const b = await searchBench(t);
  return { b, search: (_service, wanted) => b.logs.search('app', wanted) };
}

interface Answer {
  readonly hits: LogHit[];
  readonly report: SearchReport | undefined;
}

async function ask(client: Client<typeof AgentService>, service: string, wanted: Partial<LogSearch>): Promise<Answer> {
  const request = SearchLocalLogsRequest.fromPartial({ service, search: LogSearch.fromPartial(wanted) });
  const hits: LogHit[] = [];
  let last: SearchReport | undefined;
  for await (const { hits: some, report } of client.searchLocalLogs(request)) {
    assert.equal(last, undefined, 'the report is last');
    hits.push(...some);
    last = report;
  }
  return { hits, report: last };
}

describe('SearchLocalLogs', () => {
  it('answers people about every service, and a service about itself', async (t) => {
    const { b, search } = await logsOf(t);
    await b.write('app.log', '2026-05-01T12:00:00Z x \u001b[31mred\nno\n');
    const { operator, client, sockets } = await localAgent(t, { search });
    const { hits, report } = await ask(operator(), 'web', { pattern: 'x' });
    assert.equal(hits.length, 1);
    const { machineName, service, file, line, time, text, release } = hits[0] ?? {};
    assert.deepEqual(
      { machineName, service, file, line, time, text, release },
      {
        machineName: 'web-1',
        service: 'web',
        file: 'app.log',
        line: 1,
        time: new Date('2026-05-01T12:00:00Z'),
        text: '2026-05-01T12:00:00Z x \u001b[31mred',
        release: '1.0.0',
      },
    );
    assert.deepEqual([report?.files, report?.filesTotal, report?.limits], [1, 1, []]);
    const [uid, gid] = [process.getuid?.() ?? 0, process.getgid?.() ?? 0];
    const own = client(AgentService, { address: `unix:${await sockets.ensure({ service: 'orders', uid, gid })}` });
    assert.equal((await ask(own, '', { pattern: 'x' })).hits[0]?.service, 'orders');
    await assert.rejects(ask(own, 'web', { pattern: 'x' }), (error) => isCode(error, 'denied'));
  });

  it('refuses what cannot be searched, and names each mistake', async (t) => {
    const { b, search } = await logsOf(t);
    await b.write('app.log', 'x\n');
    const { operator } = await localAgent(t, { search });
    const refused = async (wanted: Partial<LogSearch>, text: RegExp): Promise<void> => {
      await assert.rejects(
        ask(operator(), 'web', wanted),
        (error) => isCode(error, 'invalid') && text.test(error.message),
      );
    };
    await refused({}, /pattern: must not be empty/);
    await refused({ pattern: 'x\ny' }, /without line ends/);
    await refused({ pattern: '(a)\\1', regex: true }, /back references/);
    await refused({ pattern: 'x', before: 101 }, /between 0 and 100/);
    await refused({ pattern: 'a(b', regex: true }, /grep: Unmatched/);
    await assert.rejects(ask(operator(), 'nosuch', { pattern: 'x' }), (error) => isCode(error, 'not_found'));
    await assert.rejects(ask(operator(), 'web', { pattern: 'x', file: '../x' }), (error) => isCode(error, 'not_found'));
  });

  it('gives its place back when its caller leaves', async (t) => {
    const { b, search } = await logsOf(t);
    await b.write('app.log', 'x\n'.repeat(300_000));
    const { operator } = await localAgent(t, { search });
    const request = SearchLocalLogsRequest.fromPartial({
      service: 'web',
      search: LogSearch.fromPartial({ pattern: 'x', maxLines: 100_000 }),
    });
    for (let round = 0; round < 4; round += 1) {
      for await (const { hits } of operator().searchLocalLogs(request)) {
        assert.ok(hits.length > 0);
        break;
      }
    }
    assert.equal((await ask(operator(), 'web', { pattern: 'x', maxLines: 5 })).hits.length, 5);
  });
});

async function searchSite(t: TestContext, search: SearchLogs, options: FakeCenterOptions = {}) {
  const data = await temporaryData(t);
  const center = await FakeCenter.start(t, options);
  const identity = await center.issue({ principal: { kind: 'agent', machine: 'm-1' } });
  await writeIdentity({ data, center: center.address, identity });
  await linkedAgent(t, { data, search });
  const session = await center.session();
  const order = (command: string, wanted: Partial<LogSearch>): Promise<void> =>
    session.send({
      $case: 'command',
      value: {
        command,
        action: 'ACTION_SEARCH',
        service: 'orders',
        expiresIn: undefined,
        tail: undefined,
        deploy: undefined,
        rollback: undefined,
        backup: undefined,
        search: LogSearch.fromPartial(wanted),
      },
    });
  const ended = (command: string): Promise<CommandUpdate> =>
    session.awaited('commandUpdate', (update) => update.command === command && update.ended !== undefined);
  return { center, session, order, ended };
}

describe('a search that the center orders', () => {
  it('sends its hits beside the session, and ends with what it looked at', async (t) => {
    const { b, search } = await logsOf(t);
    await b.write('app.log', 'x one\nx two\n');
    const { center, order, ended } = await searchSite(t, search);
    await order('s-1', { pattern: 'x' });
    const { outcome, search: report, message } = await ended('s-1');
    assert.deepEqual([outcome, report?.hits, message], ['OUTCOME_SUCCEEDED', 2, '2 matching lines in 1 file']);
    assert.equal(center.uploads[0]?.command, 's-1');
    const texts = center.uploads.flatMap(({ hits }) => hits.map(({ text, machineName }) => `${machineName} ${text}`));
    assert.deepEqual(texts, ['web-1 x one', 'web-1 x two']);
    await order('s-2', { pattern: 'a(b', regex: true });
    const failed = await ended('s-2');
    assert.equal(failed.outcome, 'OUTCOME_FAILED');
    assert.match(failed.message, /cannot be searched for: grep: Unmatched/);
    await order('s-3', {});
    assert.match((await ended('s-3')).message, /pattern: must not be empty/);
  });

  it('is complete only when the center has answered its last hit, though grep was through', async (t) => {
    const { b, search } = await logsOf(t);
    await b.write('app.log', 'x one\nx two\n');
    const ends: Readonly<Record<string, (requests: AsyncIterable<UploadOutputRequest>) => Promise<void>>> = {
      // There is no output of that name any more: all of it may have been sent by then.
      's-unwanted': async (requests) => {
        for await (const request of requests) assert.ok(request.hits.length <= 2);
        throw new MusterError('cancelled', 'nobody waits for this output any more', { reason: 'OUTPUT_UNWANTED' });
      },
      's-failed': async (requests) => {
        for await (const request of requests) assert.ok(request.hits.length <= 2);
        throw new MusterError('unavailable', 'the center is going away');
      },
    };
    const { order, ended } = await searchSite(t, search, {
      handlers: {
        uploadOutput: async (requests) => {
          const first = await requests[Symbol.asyncIterator]().next();
          await ends[first.done ? '' : first.value.command]?.(requests);
          return {};
        },
      },
    });
    await order('s-unwanted', { pattern: 'x' });
    const unwanted = await ended('s-unwanted');
    assert.deepEqual([unwanted.outcome, unwanted.search?.limits], ['OUTCOME_SUCCEEDED', ['SEARCH_LIMIT_CANCELLED']]);
    assert.match(unwanted.message, /cut short: cancelled/);
    await order('s-failed', { pattern: 'x' });
    const failed = await ended('s-failed');
    assert.deepEqual([failed.outcome, failed.message], ['OUTCOME_FAILED', 'the center is going away']);
  });

  it('is held back by a center that does not read, and ends when that ends the call or cancels it', async (t) => {
    const { b, search } = await logsOf(t);
    await b.write('app.log', `x ${'.'.repeat(1000)}\n`.repeat(20_000));
    for (let count = 0; count < 20; count += 1)
      await appendFile(join(b.root, 'more.log'), `x ${'.'.repeat(15_000)}\n`.repeat(500));
    let leave = (): void => undefined;
    const leaving = new Promise<void>((resolve) => {
      leave = resolve;
    });
    const { session, order, ended } = await searchSite(t, search, {
      handlers: {
        uploadOutput: async (requests) => {
          const first = await requests[Symbol.asyncIterator]().next();
          assert.equal(first.done, false);
          await leaving;
          throw new MusterError('cancelled', 'nobody waits for this output any more', { reason: 'OUTPUT_UNWANTED' });
        },
      },
    });
    await order('s-1', { pattern: 'x', maxLines: 100_000 });
    await order('s-2', { pattern: 'x', maxLines: 100_000 });
    for (const command of ['s-1', 's-2'])
      await session.awaited('commandUpdate', (update) => update.command === command);
    await session.send({ $case: 'cancel', value: { command: 's-2' } });
    const cancelled = await ended('s-2');
    assert.equal(cancelled.outcome, 'OUTCOME_CANCELLED');
    const { limits, hits = 0 } = cancelled.search ?? {};
    assert.deepEqual(limits, ['SEARCH_LIMIT_CANCELLED']);
    assert.ok(hits < 20_000, `${hits} hits were sent to nobody`);
    leave();
    // The center has enough, or nobody waits any more: no failure, and said.
    const left = await ended('s-1');
    assert.deepEqual([left.outcome, left.search?.limits], ['OUTCOME_SUCCEEDED', ['SEARCH_LIMIT_CANCELLED']]);
  });
});
