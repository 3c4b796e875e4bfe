import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import {
  ListMachinesResponse,
  OperationCounts,
  SearchCoverage,
  SearchLogsResponse,
  type SearchLogsRequest,
} from '../../../generated/muster/v1/center.js';
import { LogHit, SearchReport, type SearchLimit } from '../../../generated/muster/v1/types.js';
import { MusterError } from '../../../src/kit/errors.js';
import { operation, ScriptedCenter, target } from '../../support/scripted-center.js';
import { waitFor } from '../../support/waiting.js';

type Step = Parameters<typeof SearchLogsResponse.fromPartial>[0] | (() => Promise<void>) | MusterError;

const forEver = (): Promise<void> => new Promise(() => undefined);
const began = (total: number): Step => ({
  operation: operation('OPERATION_STATE_RUNNING', {
    action: 'ACTION_SEARCH',
    counts: OperationCounts.fromPartial({ total }),
  }),
});

function hit(machine: number, line: number, text: string, fields: Partial<LogHit> = {}): LogHit {
  return LogHit.fromPartial({
    machineName: `web-${machine}`,
    service: 'orders',
    file: 'orders.log',
    line,
    text,
    ...fields,
  });
}

function ended(machine: number, hits: number, limits: SearchLimit[] = [], problems: string[] = []) {
  const search = SearchReport.fromPartial({ files: 2, filesTotal: 2, bytes: 1000, hits, limits, problems });
  return target(machine - 1, 'OUTCOME_SUCCEEDED', { search });
}

interface Fixture {
  readonly center: ScriptedCenter;
  readonly asked: SearchLogsRequest[];
}

/** A center on which searches go as written, one after the other. */
async function fixture(t: TestContext, ...scripts: readonly (readonly Step[])[]): Promise<Fixture> {
  const asked: SearchLogsRequest[] = [];
  const center = await ScriptedCenter.start(t, {
    searchLogs: async function* (request) {
      asked.push(request);
      for (const step of scripts[Math.min(asked.length, scripts.length) - 1] ?? []) {
        if (step instanceof MusterError) throw step;
        if (typeof step === 'function') await step();
        else yield SearchLogsResponse.fromPartial(step);
      }
    },
    listMachines: () =>
      Promise.resolve(
        ListMachinesResponse.fromPartial({
          machines: [{ name: 'web-3', lastContact: new Date('2026-11-20T10:00:00Z') }],
        }),
      ),
    listTargets: () =>
      Promise.resolve({ targets: [0, 1, 2].map((index) => target(index, 'OUTCOME_CANCELLED')), nextPageToken: '' }),
  });
  return { center, asked };
}

const whole = (machines: number, hits: number): Step => ({
  coverage: SearchCoverage.fromPartial({ machines, machinesComplete: machines, files: 4, bytes: 2_000_000, hits }),
});

describe('muster logs grep', () => {
  it('asks for what was typed', async (t) => {
    const { center, asked } = await fixture(t, [began(1), { hits: [hit(1, 1, 'x')] }, whole(1, 1)]);
    const options = '--on role=web --regex -i --since 2026-11-23T14:00:00Z --until 2026-11-23T15:00:00Z -B 1 -A 2';
    const limits = '--max-lines 50 --max-bytes 1MB --max-cpu 5s --file access --batch 25% --timeout 30s --queue-for 1m';
    const argv = [
      'logs',
      'grep',
      'orders',
      'fail(ed|ing)',
      ...options.split(' '),
      ...limits.split(' '),
      '--reason',
      'x',
    ];
    assert.equal((await center.run(argv)).status, 0);
    const [{ strategy, search, ...rest } = { strategy: undefined, search: undefined }] = asked;
    assert.deepEqual(rest, { service: 'orders', selector: 'role=web', reason: 'x' });
    assert.deepEqual(search, {
      pattern: 'fail(ed|ing)',
      regex: true,
      ignoreCase: true,
      since: new Date('2026-11-23T14:00:00Z'),
      until: new Date('2026-11-23T15:00:00Z'),
      before: 1,
      after: 2,
      maxLines: 50,
      maxBytes: 1_000_000,
      maxCpu: { seconds: 5, nanos: 0 },
      file: 'access',
    });
    assert.deepEqual(
      [strategy?.batch, strategy?.timeout?.seconds, strategy?.targetTimeout?.seconds, strategy?.queueFor?.seconds],
      ['25%', 30, 30, 60],
    );
  });

  it('prints hits and the lines around them as grep does, inert, and then what was searched', async (t) => {
    const context = { context: true };
    const { center } = await fixture(t, [
      began(2),
      {
        hits: [
          hit(1, 4, 'before', { ...context, separate: true }),
          hit(1, 5, 'a \u001b[2J hit'),
          hit(1, 9, 'other', { separate: true }),
        ],
      },
      { hits: [hit(2, 0, 'of the journal', { file: 'journal', truncated: true })], ended: [ended(1, 2), ended(2, 1)] },
      whole(2, 3),
    ]);
    const { status, io } = await center.run(['logs', 'grep', 'orders', 'hit', '--context', '1']);
    assert.equal(status, 0, io.complained());
    assert.equal(
      io.written(),
      [
        'web-1 orders.log-4- before',
        'web-1 orders.log:5: a \\x1b[2J hit',
        '--',
        'web-1 orders.log:9: other',
        '--',
        'web-2 journal: of the journal…',
        '',
      ].join('\n'),
    );
    assert.equal(io.complained(), 'Searched everything on 2 machines: 4 files, 2.0 MB; 3 matching lines\n');
  });

  it('names no machine where there is one, and no groups without context', async (t) => {
    const { center, asked } = await fixture(t, [
      began(1),
      { hits: [hit(1, 4, 'one'), hit(1, 8, 'two', { separate: true })] },
      whole(1, 2),
    ]);
    const { io } = await center.run(['logs', 'grep', 'orders', 'o', '-C', '0']);
    assert.equal(io.written(), 'orders.log:4: one\norders.log:8: two\n');
    assert.equal(asked[0]?.search?.maxLines, 1000);
    assert.equal(asked[0].search.before, 0);
  });

  it('says with exit status 1 that nothing was found, and what was not searched', async (t) => {
    const nothing = await fixture(t, [began(1), whole(1, 0)]);
    const { status, io } = await nothing.center.run(['logs', 'grep', 'orders', 'x']);
    assert.deepEqual([status, io.written()], [1, '']);
    assert.match(io.complained(), /^Searched everything: 4 files, 2.0 MB; 0 matching lines\n$/);
    const cut = await fixture(t, [
      began(3),
      {
        hits: [hit(1, 1, 'x')],
        ended: [ended(1, 1, ['SEARCH_LIMIT_LINES']), ended(2, 0, [], ['old.log carries no times'])],
      },
      {
        coverage: SearchCoverage.fromPartial({
          machines: 3,
          machinesComplete: 1,
          machinesPartial: 1,
          files: 4,
          bytes: 2000,
          hits: 1,
          first: new Date('2026-11-20T10:00:00Z'),
          last: new Date('2026-11-20T11:00:00Z'),
          gaps: [
            { machineName: 'web-1', outcome: 'OUTCOME_SUCCEEDED', limits: ['SEARCH_LIMIT_LINES'] },
            { machineName: 'web-3', outcome: 'OUTCOME_EXPIRED', message: 'it was not connected' },
          ],
        }),
      },
    ]);
    const { io: said, status: found } = await cut.center.run(['logs', 'grep', 'orders', 'x']);
    assert.equal(found, 0, 'something was found');
    assert.match(
      said.complained(),
      /^NOT EVERYTHING WAS SEARCHED: of 3 machines 1 whole, 1 in part, 1 not: 4 files, 2.0 KB, lines of \S+ \S+ to /,
    );
    assert.match(
      said.complained(),
      /web-1 {2}searched in part \(as many matching lines as asked for: --max-lines gives more\)\n/,
    );
    assert.match(
      said.complained(),
      /web-3 {2}not searched, EXPIRED, not heard of since 2026-11-20 \S+: it was not connected\n/,
    );
    assert.match(said.complained(), /web-2 {2}old.log carries no times\n/);
  });

  it('says what names and messages of machines hold on one line each', async (t) => {
    const { center } = await fixture(t, [
      began(3),
      { ended: [ended(2, 0, [], ['nl\n  web-9  searched whole\u001b[2J.log cannot be read'])] },
      {
        coverage: SearchCoverage.fromPartial({
          machines: 3,
          machinesComplete: 1,
          gaps: [
            { machineName: 'web-1', outcome: 'OUTCOME_FAILED', message: 'no line of nl\nx.log\u202e has a time' },
            { machineName: 'web\n3', outcome: 'OUTCOME_FAILED', message: 'it is full' },
          ],
        }),
      },
    ]);
    const { io } = await center.run(['logs', 'grep', 'orders', 'x']);
    assert.deepEqual(io.complained().split('\n').slice(1), [
      '  web-1  not searched to its end, FAILED: no line of nl x.log\\u202e has a time',
      '  web 3  not searched to its end, FAILED: it is full',
      '  web-2  nl   web-9  searched whole\\x1b[2J.log cannot be read',
      '',
    ]);
  });

  it('says once what every machine refused for the same reason', async (t) => {
    const message = 'the pattern cannot be read: a bracket is not closed';
    const gaps = [1, 2, 4].map((index) => ({
      machineName: `web-${index}`,
      outcome: 'OUTCOME_FAILED' as const,
      message,
    }));
    const { center } = await fixture(t, [began(3), { coverage: SearchCoverage.fromPartial({ machines: 3, gaps }) }]);
    const { io, status } = await center.run(['logs', 'grep', 'orders', '--regex', '[']);
    assert.equal(status, 1);
    assert.deepEqual(io.complained().split('\n').slice(1), [
      `  each machine  not searched to its end, FAILED: ${message}`,
      '',
    ]);
  });

  it('says of machines that were not searched any more, as there was enough, that there was', async (t) => {
    const gap = { machineName: 'web-2', outcome: 'OUTCOME_CANCELLED' as const, message: 'cancelled before it started' };
    const { center } = await fixture(t, [
      began(2),
      { hits: [hit(1, 1, 'x')], ended: [ended(1, 1)] },
      { coverage: SearchCoverage.fromPartial({ machines: 2, machinesComplete: 1, hits: 1, gaps: [gap] }) },
    ]);
    const { io } = await center.run(['logs', 'grep', 'orders', 'x', '--max-lines', '1']);
    assert.match(
      io.complained(),
      /\n {2}web-2 {2}not searched \(as many matching lines as asked for: --max-lines gives more\)\n$/,
    );
  });

  it('answers in JSON: an object for each hit, the coverage last', async (t) => {
    const { center } = await fixture(t, [began(1), { hits: [hit(1, 4, 'one'), hit(1, 5, 'two')] }, whole(1, 2)]);
    const { status, io } = await center.run(['logs', 'grep', 'orders', 'o', '--json']);
    assert.equal(status, 0);
    const objects = io
      .written()
      .trim()
      .split('\n')
      .map(
        (line) => JSON.parse(line) as { hit?: { text: string }; coverage?: { machines: number }; complete?: boolean },
      );
    assert.deepEqual(
      objects.map((one) => one.hit?.text),
      ['one', 'two', undefined],
    );
    assert.deepEqual([objects[2]?.coverage?.machines, objects[2]?.complete], [1, true]);
    assert.equal(io.complained(), '');
  });

  it('searches again what was cut off when the center went away, and prints nothing twice', async (t) => {
    const same = { file: 'journal', time: new Date('2026-11-23T14:00:00Z') };
    const { center, asked } = await fixture(
      t,
      [began(3), { hits: [hit(1, 1, 'a'), hit(2, 1, 'b'), hit(2, 0, 'again', same)], ended: [ended(1, 1)] }, forEver],
      [
        began(2),
        { hits: [hit(2, 1, 'b'), hit(2, 2, 'c'), hit(2, 0, 'again', same), hit(2, 0, 'again', same)] },
        { hits: [hit(3, 1, 'd')], ended: [ended(2, 4), ended(3, 1)] },
        whole(2, 5),
      ],
    );
    const { io, done } = center.begin(['logs', 'grep', 'orders', 'x', '--on', 'role=web', '--max-lines', '10']);
    await waitFor('the first hits', () => io.written().includes('again'));
    await center.stop();
    await waitFor('the loss to be told', () => io.complained().includes('The center cannot be reached'));
    await center.start();
    assert.equal(await done, 0, io.complained());
    assert.equal(
      io.written(),
      [
        'web-1 orders.log:1: a',
        'web-2 orders.log:1: b',
        'web-2 journal: again',
        'web-2 orders.log:2: c',
        'web-2 journal: again',
        'web-3 orders.log:1: d',
        '',
      ].join('\n'),
    );
    assert.match(
      io.complained(),
      /Searching again on 2 machines[^]*Searched everything on 3 machines: 6 files, 3.0 KB; 6 matching lines\n$/,
    );
    assert.equal(asked[1]?.selector, 'role=web,machine in (web-2,web-3)');
    assert.equal(asked[1].search?.maxLines, 9);
    assert.equal(asked[1].strategy?.queueFor?.seconds, 30, 'agents come back after their center');
  });

  it('is cancelled by Ctrl-C, and says what was searched until then', async (t) => {
    const { center } = await fixture(t, [began(3), { hits: [hit(1, 1, 'a')], ended: [ended(1, 1)] }, forEver]);
    const stop = new AbortController();
    const { io, done } = center.begin(['logs', 'grep', 'orders', 'a'], { signal: stop.signal });
    await waitFor('the first hit', () => io.written() !== '');
    stop.abort(new Error('SIGINT'));
    assert.equal(await done, 0);
    assert.match(
      io.complained(),
      /Cancelled\. So far:\nNOT EVERYTHING WAS SEARCHED: of 3 machines 1 whole, 0 in part, 2 not: 2 files[^]*2 machines had not answered/,
    );
  });

  it('says on a terminal how far it is, and takes that away for what it prints', async (t) => {
    let go: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => (go = resolve));
    const { center } = await fixture(t, [
      began(3),
      { ended: [ended(1, 0)] },
      () => gate,
      { hits: [hit(2, 1, 'a')] },
      whole(3, 1),
    ]);
    const { io, done } = center.begin(['logs', 'grep', 'orders', 'a'], { terminal: true });
    await waitFor('the status', () => io.written().includes('searching: 1 of 3 machines done, 0 found'));
    go();
    assert.equal(await done, 0);
    const [, end = ''] = io.written().split('0 found');
    assert.match(end, /^\r\u001b\[Kweb-2 orders\.log:1: [^\n]*\n$/);
  });

  it('refuses what cannot be searched for, and passes the refusals of the center on', async (t) => {
    const { center } = await fixture(t, [new MusterError('not_found', 'there is no service "ordres"')]);
    for (const argv of [
      ['orders', ''],
      ['orders', 'x', '--since', 'yesterday'],
      ['orders', '(a)\\1', '--regex'],
      ['orders', 'x', '--since', '1h', '--until', '2h'],
      ['orders', 'x', '-C', '200'],
      ['orders', 'x', '--max-lines', '0'],
      ['orders', 'x', '--max-bytes', '0'],
      ['orders', 'x', '--local', '--on', 'role=web'],
      ['orders'],
    ]) {
      assert.equal((await center.run(['logs', 'grep', ...argv])).status, 2, argv.join(' '));
    }
    const { status, io } = await center.run(['logs', 'grep', 'ordres', 'x']);
    assert.equal(status, 1);
    assert.match(io.complained(), /no service "ordres"/);
  });

  it('is wrong usage where the expression is refused', async (t) => {
    const refusal = 'this pattern cannot be searched for: grep: Unmatched [';
    const { center } = await fixture(t, [new MusterError('invalid', refusal, { reason: 'PATTERN' })]);
    const { status, io } = await center.run(['logs', 'grep', 'orders', '[', '--regex']);
    assert.equal(status, 2);
    assert.ok(io.complained().includes(refusal), io.complained());
  });
});
