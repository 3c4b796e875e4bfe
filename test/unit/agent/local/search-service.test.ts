import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SearchLocalLogsRequest, type SearchLocalLogsResponse } from '../../../../generated/muster/v1/agent.js';
import { LogSearch } from '../../../../generated/muster/v1/types.js';
import { LocalApi } from '../../../../src/agent/local/api.js';
import { READER_STALLED_MS, searchLocalLogs } from '../../../../src/agent/local/search-service.js';
import { LocalSearchSlots } from '../../../../src/agent/local/search-slots.js';
import { ManualClock } from '../../../../src/kit/clock.js';
import { isCode } from '../../../../src/kit/errors.js';
import { JOURNAL, type LogHit } from '../../../../src/model/log-search.js';
import type { Principal } from '../../../../src/rpc/principal.js';
import { FakeServices } from '../../../support/fake-services.js';
import { FACTS } from '../../../support/local-agent.js';
import { RESOURCES } from '../../../support/linked-agent.js';

const HIT: LogHit = {
  file: JOURNAL,
  line: 0,
  timeMs: undefined,
  text: 'x',
  truncated: false,
  context: false,
  separate: false,
  release: '',
};
const REPORT = { files: 1, filesTotal: 1, bytes: 1, hits: 1, firstMs: undefined, lastMs: undefined, tookMs: 0 };
const PERSON: Principal = { kind: 'operator', name: 'ann' };
const own = (service: string): Principal => ({ kind: 'service', machine: 'm-1', service });

type Call = AsyncGenerator<SearchLocalLogsResponse>;

/** Searches without an end of their own; `running` are those that began and have not ended. */
class Bench {
  readonly clock = new ManualClock();
  running = 0;
  readonly #localSearchSlots = new LocalSearchSlots();
  readonly #api = new LocalApi(new FakeServices('orders', 'web', 'mail'));

  call(principal: Principal, service: string): Call {
    const facts = {
      agent: () => FACTS,
      resources: () => Promise.resolve(RESOURCES),
      config: () => ({ held: 0, applied: 0 }),
    };
    const search = () =>
      Promise.resolve({
        hits: () => this.#hits(),
        report: () => ({ ...REPORT, limits: [], problems: [] }),
      });
    const options = { api: this.#api, facts, search, localSearchSlots: this.#localSearchSlots, clock: this.clock };
    const request = SearchLocalLogsRequest.fromPartial({ service, search: LogSearch.fromPartial({ pattern: 'x' }) });
    return searchLocalLogs(options, request, { principal, signal: new AbortController().signal });
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- the shape of a search
  async *#hits(): AsyncGenerator<readonly LogHit[]> {
    this.running += 1;
    try {
      for (;;) yield [HIT];
    } finally {
      this.running -= 1;
    }
  }
}

/** Whether the call has got its first batch when everything that can go on has. */
async function begun(b: Bench, call: Call): Promise<{ readonly yes: () => boolean; readonly first: Promise<unknown> }> {
  let came = false;
  const first = call.next().then(() => (came = true));
  await b.clock.advance(0);
  return { yes: () => came, first };
}

describe('a search on the machine whose caller stops reading', () => {
  it('ends, gives its place to who waits, and says so when he reads on', async () => {
    const b = new Bench();
    const stalled = [b.call(PERSON, 'web'), b.call(PERSON, 'web')];
    for (const call of stalled) assert.equal((await call.next()).done, false);
    const waiting = await begun(b, b.call(PERSON, 'orders'));
    await b.clock.advance(READER_STALLED_MS - 1);
    assert.deepEqual([b.running, waiting.yes()], [2, false]);
    await b.clock.advance(1);
    await waiting.first;
    assert.equal(b.running, 1);
    for (const call of stalled) {
      await assert.rejects(
        call.next(),
        (error) => isCode(error, 'deadline') && /nothing of it was read for 30s/.test(error.message),
      );
      assert.equal((await call.next()).done, true);
    }
  });

  it('goes on for as long as he reads', async () => {
    const b = new Bench();
    const call = b.call(PERSON, 'web');
    for (let batch = 0; batch < 5; batch += 1) {
      assert.equal((await call.next()).done, false);
      await b.clock.advance(READER_STALLED_MS - 1);
    }
    await call.return(undefined);
    assert.deepEqual([b.running, b.clock.pending], [0, 0]);
  });
});

describe('the places of searches on the machine', () => {
  it('are one for a service, two for all of them, and others for people', async () => {
    const b = new Bench();
    const orders = b.call(own('orders'), '');
    assert.equal((await orders.next()).done, false);
    const again = await begun(b, b.call(own('orders'), ''));
    const web = await begun(b, b.call(own('web'), ''));
    const mail = await begun(b, b.call(own('mail'), ''));
    const people = [await begun(b, b.call(PERSON, 'web')), await begun(b, b.call(PERSON, 'web'))];
    assert.deepEqual(
      [again.yes(), web.yes(), mail.yes(), ...people.map(({ yes }) => yes())],
      [false, true, false, true, true],
    );
    await orders.return(undefined);
    await mail.first;
    assert.equal(again.yes(), false);
    await b.clock.advance(READER_STALLED_MS);
    await again.first;
  });
});
