import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { Searches, type SearchEvent } from '../../../../src/center/operations/searches.js';
import { clipHits, toWireCoverage } from '../../../../src/center/operations/wire.js';
import { Outputs, OUTPUTS_MAX } from '../../../../src/center/output/outputs.js';
import { MusterError } from '../../../../src/kit/errors.js';
import { NO_RESULT } from '../../../../src/model/command-result.js';
import type { LogSearch } from '../../../../src/model/log-search.js';
import { LogHit } from '../../../../generated/muster/v1/types.js';
import { OperationsHost } from '../../../support/operations-host.js';

/** Matching lines of one machine. */
type Batch = readonly string[];

/** A line that breaks its batch. */
const BAD = 'bad';

const SEARCH: LogSearch = {
  pattern: 'x',
  regex: false,
  ignoreCase: false,
  sinceMs: undefined,
  untilMs: undefined,
  before: 0,
  after: 0,
  linesMax: 100,
  bytesMax: 1000,
  cpuMs: 1000,
  file: '',
};

/** A search over machines whose agents do what a test says, and what its reader has heard. */
class Scene {
  readonly host: OperationsHost;
  readonly outputs = new Outputs<Batch>();
  readonly heard: SearchEvent<Batch>[] = [];
  readonly #searches: Searches<Batch>;
  readonly controller = new AbortController();
  over = false;

  private constructor(host: OperationsHost) {
    this.host = host;
    this.#searches = new Searches<Batch>({
      operations: host.operations,
      outputs: this.outputs,
      clip: (batch, { lines }) => {
        if (batch.includes(BAD)) throw new MusterError('invalid', 'no agent sends this');
        return {
          batch: batch.slice(0, lines),
          hits: Math.min(lines, batch.length),
          context: 0,
          clipped: batch.length > lines,
        };
      },
    });
  }

  static async of(t: TestContext, ...machines: readonly string[]): Promise<Scene> {
    return new Scene(await OperationsHost.start(t, machines));
  }

  events(linesMax = SEARCH.linesMax): AsyncGenerator<SearchEvent<Batch>> {
    const search = { ...SEARCH, linesMax };
    const wish = { ...this.host.wish({ action: 'SEARCH' }), search };
    return this.#searches.run(wish, this.controller.signal);
  }

  /** Reads all of it. */
  read(linesMax?: number): void {
    void (async () => {
      for await (const event of this.events(linesMax)) this.heard.push(event);
      this.over = true;
    })();
  }

  order(machine: string): string {
    const id = this.host.commands.list().find((one) => one.machine === machine)?.id;
    assert.ok(id, `nothing was ordered from ${machine}`);
    return id;
  }

  begin(machine: string): AbortSignal {
    return this.outputs.begin(machine, this.order(machine));
  }

  async ends(machine: string): Promise<void> {
    this.outputs.end(machine, this.order(machine));
    await this.host.report(machine, 'SUCCEEDED');
  }

  /** The agent says that all is well, and so many matching lines were found. */
  async found(machine: string, hits: number): Promise<void> {
    const search = {
      files: 1,
      filesTotal: 1,
      bytes: 9,
      hits,
      firstMs: 1,
      lastMs: 2,
      limits: [],
      problems: [],
      tookMs: 1,
    };
    await this.host.report(machine, 'SUCCEEDED', { result: { ...NO_RESULT, search } });
  }

  /** In the end: how many machines are complete, and what is said of the others. */
  coverage(): readonly (number | string)[] {
    const last = this.heard.at(-1);
    assert.ok(last?.kind === 'over', 'it is not over');
    const { machinesComplete, gaps } = toWireCoverage(last.targets, last.hits, last.clipped);
    return [
      machinesComplete,
      ...gaps.map(({ machineName, limits, message }) => `${machineName} ${limits.join()}: ${message}`),
    ];
  }

  words(): string[] {
    return this.heard.map((event) => {
      if (event.kind === 'hits') return `${event.target.machine}: ${event.batch.join(' ')}`;
      if (event.kind === 'ended') return `${event.target.machine} ${event.target.outcome}`;
      return event.kind === 'over' ? `over: ${event.hits} hits` : event.kind;
    });
  }
}

function kindOf({ done, value }: IteratorResult<SearchEvent<Batch>, unknown>): string | undefined {
  return done === true ? undefined : value.kind;
}

describe('a search', () => {
  it('gives what machines find as it comes, and each end after its hits', async (t) => {
    const scene = await Scene.of(t, 'a', 'b');
    scene.read();
    await scene.host.rest();
    for (const machine of ['a', 'b']) scene.begin(machine);
    await scene.outputs.deliver('a', scene.order('a'), ['a1', 'a2']);
    await scene.outputs.deliver('b', scene.order('b'), ['b1']);
    await scene.outputs.deliver('a', scene.order('a'), ['a3']);
    await scene.ends('a');
    await scene.ends('b');
    assert.deepEqual(scene.words(), [
      'begun',
      'a: a1 a2',
      'b: b1',
      'a: a3',
      'a SUCCEEDED',
      'b SUCCEEDED',
      'over: 4 hits',
    ]);
    assert.equal(scene.over, true);
    assert.equal(scene.outputs.size, 0);
    assert.equal(scene.host.operations.ledger.changes.listeners, 0, 'somebody still listens');
  });

  it('that has enough clips the last batch, takes no more and ends', async (t) => {
    const scene = await Scene.of(t, 'a', 'b');
    scene.read(3);
    await scene.host.rest();
    const wanted = scene.begin('b');
    scene.begin('a');
    await scene.outputs.deliver('a', scene.order('a'), ['a1', 'a2']);
    await scene.outputs.deliver('a', scene.order('a'), ['a3', 'a4']);
    await scene.host.rest();
    for (const machine of ['a', 'b']) await scene.host.report(machine, 'SUCCEEDED');
    assert.deepEqual(scene.words().slice(0, 3), ['begun', 'a: a1 a2', 'a: a3']);
    const last = scene.heard.at(-1);
    assert.ok(last?.kind === 'over');
    assert.deepEqual([last.hits, [...last.clipped]], [3, ['a']]);
    assert.equal(scene.host.operations.ledger.list()[0]?.record.stop?.cause, 'enough');
    assert.ok(wanted.aborted, 'the other machine is still read');
    assert.deepEqual([...scene.host.cancels].sort(), [scene.order('a'), scene.order('b')].sort());
  });

  it('whose reader is slow holds the agents back', async (t) => {
    const scene = await Scene.of(t, 'a');
    const events = scene.events();
    const begun = events.next();
    await scene.host.rest();
    assert.equal(kindOf(await begun), 'begun');
    const next = events.next();
    scene.begin('a');
    await scene.outputs.deliver('a', scene.order('a'), ['a1']);
    assert.equal(kindOf(await next), 'hits');
    let taken = 0;
    const delivering = (async () => {
      for (let batch = 0; batch < 5; batch += 1) {
        await scene.outputs.deliver('a', scene.order('a'), [`more ${batch}`]);
        taken += 1;
      }
    })();
    await scene.host.rest(60_000);
    assert.ok(taken <= 1, `${taken} batches were taken while nobody read`);
    for (let batch = 0; batch < 5; batch += 1) await events.next();
    await delivering;
    await events.return(undefined);
  });

  it('whose reader leaves is stopped, and its agents are told', async (t) => {
    for (const how of ['returns', 'aborts'] as const) {
      const scene = await Scene.of(t, 'a', 'b');
      const events = scene.events();
      const begun = events.next();
      await scene.host.rest();
      await begun;
      const wanted = scene.begin('a');
      if (how === 'returns') await events.return(undefined);
      else scene.controller.abort(new Error('gone'));
      await scene.host.rest();
      assert.ok(wanted.aborted, how);
      await assert.rejects(scene.outputs.deliver('a', scene.order('a'), ['late']), /nobody waits/);
      assert.deepEqual([...scene.host.cancels].sort(), [scene.order('a'), scene.order('b')].sort());
      for (const machine of ['a', 'b']) await scene.host.report(machine, 'CANCELLED');
      const [view] = scene.host.operations.ledger.list();
      assert.equal(view?.state, 'CANCELLED');
      assert.equal(view.record.stop?.cause, 'reader');
      await events.return(undefined);
      assert.equal(scene.outputs.size, 0);
    }
  });

  it('does not wait for hits of machines that cannot be asked, or are lost', async (t) => {
    const scene = await Scene.of(t, 'a', 'b');
    scene.host.connected.delete('b');
    scene.read();
    await scene.host.rest();
    await scene.host.rest(2000);
    await scene.host.lose('a');
    scene.outputs.machineLost('a');
    await scene.host.rest(40_000);
    assert.equal(scene.over, true);
    assert.deepEqual(scene.words().sort(), ['a UNKNOWN', 'b EXPIRED', 'begun', 'over: 0 hits']);
  });

  it('takes from a machine that was lost before it began, when it is ordered again', async (t) => {
    const scene = await Scene.of(t, 'a');
    scene.read();
    await scene.host.rest();
    scene.outputs.machineLost('a');
    await scene.host.lose('a');
    await scene.host.find('a');
    assert.equal(scene.host.orders.length, 2, 'it was not ordered again');
    scene.begin('a');
    await scene.outputs.deliver('a', scene.order('a'), ['a1', 'a2']);
    scene.outputs.end('a', scene.order('a'));
    await scene.found('a', 2);
    assert.deepEqual(scene.words(), ['begun', 'a: a1 a2', 'a SUCCEEDED', 'over: 2 hits']);
    assert.deepEqual(scene.coverage(), [1]);
    assert.equal(scene.outputs.size, 0);
  });

  it('says that lines were lost on the way, whatever the agent says', async (t) => {
    const scene = await Scene.of(t, 'few', 'broken', 'never', 'whole', 'bad');
    scene.read();
    await scene.host.rest();
    for (const machine of ['few', 'broken', 'whole', 'bad']) scene.begin(machine);
    for (const machine of ['few', 'broken', 'whole']) {
      await scene.outputs.deliver(machine, scene.order(machine), ['1', '2']);
    }
    await scene.outputs.deliver('bad', scene.order('bad'), [BAD]);
    scene.outputs.end('few', scene.order('few'));
    scene.outputs.end('broken', scene.order('broken'), new MusterError('unavailable', 'the agent stopped sending'));
    scene.outputs.end('whole', scene.order('whole'));
    await scene.found('few', 3);
    for (const machine of ['broken', 'never', 'whole']) await scene.found(machine, 2);
    await scene.found('bad', 1);
    const lost = 'matching lines may have been lost on the way: search again';
    assert.deepEqual(scene.coverage().toSorted(), [
      1,
      `bad SEARCH_LIMIT_PROBLEM: ${lost} (no agent sends this)`,
      `broken SEARCH_LIMIT_PROBLEM: ${lost} (the agent stopped sending)`,
      `few SEARCH_LIMIT_PROBLEM: 3 matching lines were found and 2 came: ${lost}`,
      `never SEARCH_LIMIT_PROBLEM: ${lost}`,
    ]);
    const told = scene.heard.flatMap((event) => (event.kind === 'ended' ? [event.target] : []));
    const limited = told.filter(({ result }) => result?.search?.limits.includes('PROBLEM'));
    assert.equal(limited.length, 4, 'the ends that are told say it too');
  });

  it('says of a machine for which there was no room to wait that it was not read', async (t) => {
    const scene = await Scene.of(t, 'a');
    const others = Array.from({ length: OUTPUTS_MAX }, (_, index) => scene.outputs.open(`other-${index}`, 'z'));
    scene.read();
    await scene.host.rest();
    assert.throws(() => scene.begin('a'), /nobody waits/);
    await scene.found('a', 5);
    const [complete, gap] = scene.coverage();
    assert.equal(complete, 0);
    assert.match(String(gap), /^a SEARCH_LIMIT_PROBLEM: .*search again \(the output of 2000 machines is being read/);
    for (const other of others) other.leave();
  });

  it('tells the end of each target to a reader who is slow', async (t) => {
    const scene = await Scene.of(t, 'a', 'b');
    const events = scene.events();
    const begun = events.next();
    await scene.host.rest();
    await begun;
    for (const machine of ['a', 'b']) {
      scene.begin(machine);
      void scene.outputs.deliver(machine, scene.order(machine), ['1']);
      await scene.host.rest();
      scene.outputs.end(machine, scene.order(machine));
      await scene.found(machine, 1);
    }
    const kinds: string[] = [];
    for await (const { kind } of events) {
      kinds.push(kind);
      await scene.host.rest();
    }
    assert.deepEqual(kinds.toSorted(), ['ended', 'ended', 'hits', 'hits', 'over']);
  });

  it('that a full disk keeps from being stopped is stopped when there is room', async (t) => {
    const scene = await Scene.of(t, 'a');
    scene.read();
    await scene.host.rest();
    const write = scene.host.store.write.bind(scene.host.store);
    scene.host.store.write = () => Promise.reject(new MusterError('exhausted', 'the disk is almost full'));
    scene.controller.abort(new Error('gone'));
    await scene.host.rest(5000);
    const [view] = scene.host.operations.ledger.list();
    assert.equal(view?.state, 'RUNNING');
    scene.host.store.write = write;
    await scene.host.rest(5000);
    assert.equal(scene.host.operations.ledger.list()[0]?.record.stop?.cause, 'reader');
    await scene.host.report('a', 'CANCELLED');
    assert.equal(scene.host.operations.ledger.list()[0]?.state, 'CANCELLED');
  });

  it('does not keep a center from starting on a full disk', async (t) => {
    const scene = await Scene.of(t, 'a');
    scene.host.connected.clear();
    scene.read();
    await scene.host.rest();
    scene.host.stop();
    const { store } = scene.host;
    const write = store.write.bind(store);
    store.write = () => Promise.reject(new MusterError('exhausted', 'the disk is almost full'));
    const next = await OperationsHost.start(t, ['a'], scene.host);
    await next.rest(3000);
    assert.equal(next.operations.ledger.list()[0]?.record.stop, undefined);
    store.write = write;
    await next.rest(3000);
    assert.match(next.operations.ledger.list()[0]?.record.stop?.message ?? '', /restarted/);
    assert.equal(next.orders.length, 0);
  });

  it('of a center that was restarted is stopped', async (t) => {
    const scene = await Scene.of(t, 'a');
    scene.read();
    await scene.host.rest();
    scene.host.stop();
    const next = await OperationsHost.start(t, ['a'], scene.host);
    await next.rest();
    const [view] = next.operations.ledger.list();
    assert.match(view?.record.stop?.message ?? '', /restarted/);
    await next.find('a');
    await next.rest(40_000);
    assert.equal(next.operations.ledger.list()[0]?.state, 'CANCELLED');
    assert.equal(next.orders.length, 0, 'it is searched again for nobody');
  });
});

describe('hits', () => {
  const hit = (line: number, context = false): LogHit => LogHit.fromPartial({ line, context });

  it('are clipped behind as many matching lines as there is room for, with their context', () => {
    const hits = [hit(1, true), hit(2), hit(3, true), hit(4), hit(5, true)];
    assert.deepEqual(clipHits(hits, 2), { hits, matching: 2, clipped: false });
    assert.deepEqual(clipHits(hits, 1), { hits: hits.slice(0, 3), matching: 1, clipped: true });
    assert.deepEqual(clipHits(hits, 0), { hits: hits.slice(0, 1), matching: 0, clipped: true });
    assert.deepEqual(clipHits([], 0), { hits: [], matching: 0, clipped: false });
  });

  it('are said to be all, or what is missing is said', async (t) => {
    const host = await OperationsHost.start(t, ['a', 'b', 'c']);
    const { record } = await host.operations.start(host.wish({ action: 'SEARCH', search: SEARCH }));
    await host.rest();
    const report = { files: 2, filesTotal: 2, bytes: 10, hits: 1, firstMs: 5, lastMs: 9, problems: [], tookMs: 1 };
    await host.report('a', 'SUCCEEDED', { result: { ...NO_RESULT, search: { ...report, limits: [] } } });
    await host.report('b', 'SUCCEEDED', { result: { ...NO_RESULT, search: { ...report, limits: ['BYTES'] } } });
    await host.report('c', 'FAILED', { message: 'no such log' });
    const coverage = toWireCoverage(host.operations.ledger.targetsOf(record.id), 2, new Set(['a']));
    assert.deepEqual([coverage.machines, coverage.machinesComplete, coverage.machinesPartial], [3, 0, 2]);
    assert.deepEqual(
      coverage.gaps.map(({ machineName, limits, message }) => [machineName, limits.join(), message]),
      [
        ['a', 'SEARCH_LIMIT_LINES', ''],
        ['b', 'SEARCH_LIMIT_BYTES', ''],
        ['c', '', 'no such log'],
      ],
    );
    assert.deepEqual([coverage.files, coverage.bytes, coverage.hits], [4, 20, 2]);
  });
});
