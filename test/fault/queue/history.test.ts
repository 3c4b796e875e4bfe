import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { QueueJudge, type Letter, type Mode, type QueueEvent } from '../../support/queue-history.js';

const SUBSCRIPTION = 's';

const sent = (n: number): QueueEvent => ({ kind: 'sent', id: `p/${n}` });
const published = (n: number, sequence = n): QueueEvent => ({
  kind: 'published',
  id: `p/${n}`,
  sequence,
});
const delivered = (n: number, more: { sequence?: number; key?: string; intact?: boolean } = {}): QueueEvent => ({
  kind: 'delivered',
  subscription: SUBSCRIPTION,
  sequence: n,
  id: `p/${n}`,
  key: '',
  attempt: 1,
  intact: true,
  ...more,
});
const settling = (sequence: number, how: 'ack' | 'dead letter' = 'ack'): QueueEvent => ({
  kind: 'settling',
  subscription: SUBSCRIPTION,
  sequence,
  how,
});
const settled = (sequence: number): QueueEvent => ({ kind: 'settled', subscription: SUBSCRIPTION, sequence });
const consumed = (n: number): QueueEvent[] => [delivered(n), settling(n), settled(n)];
const stored = (n: number): QueueEvent[] => [sent(n), published(n)];

/** What the judge finds in a history of one subscription. */
function judge(mode: Mode, events: readonly QueueEvent[], letters: readonly Letter[] = []): string {
  const one = new QueueJudge();
  one.record({ kind: 'subscribed', subscription: SUBSCRIPTION, mode, all: true });
  for (const event of events) one.record(event);
  one.finish(new Map([[SUBSCRIPTION, letters]]), () => true);
  return one.findings.join('\n');
}

describe('the judge of a history', () => {
  it('finds nothing in a good one, with redelivery, a kill, a dead letter and an unknown outcome', () => {
    const history = [
      ...[...stored(1), ...stored(2), sent(3), ...stored(4)],
      ...[
        delivered(1),
        settling(1),
        delivered(2),
        { kind: 'killed' } as const,
        { kind: 'started', tookMs: 10, cpuMs: 10 } as const,
      ],
      ...[...consumed(1), ...consumed(2), ...consumed(3), delivered(4), settling(4, 'dead letter'), settled(4)],
    ];
    assert.equal(judge('single', history, [{ sequence: 4, id: 'p/4' }]), '');
  });

  it('finds an acknowledged message that is lost', () => {
    assert.match(
      judge('competing', [...stored(1), ...stored(2), ...consumed(2)]),
      /p\/1 \(1\) was acknowledged and never/,
    );
    assert.match(
      judge('competing', [sent(1), { kind: 'published', id: 'p/1', sequence: undefined }]),
      /p\/1 was acknowledged and never seen/,
    );
  });

  it('finds one that was delivered, and left without being settled', () => {
    assert.match(judge('competing', [...stored(1), delivered(1)]), /left the queue without being settled/);
  });

  it('finds one that comes again after its settle was confirmed', () => {
    assert.match(judge('competing', [...stored(1), ...consumed(1), delivered(1)]), /came again after it was settled/);
  });

  it('lets one come again whose settle was not confirmed, or that was sought', () => {
    const again = [...stored(1), delivered(1), settling(1), ...consumed(1)];
    assert.equal(judge('competing', again), '');
    const seeking: QueueEvent = { kind: 'seeking', subscription: SUBSCRIPTION };
    const sought: QueueEvent = { kind: 'sought', subscription: SUBSCRIPTION, sequence: 1 };
    assert.equal(judge('competing', [...stored(1), ...consumed(1), seeking, sought, ...consumed(1)]), '');
    assert.equal(judge('competing', [...stored(1), ...consumed(1), seeking, sought]), '');
    assert.match(judge('competing', [...stored(1), seeking, sought]), /never delivered/);
    // Whether it was settled before or after the seek that is not answered is not known.
    const unanswered = [...stored(1), seeking, ...consumed(1), { kind: 'killed' } as const, ...consumed(1)];
    assert.equal(judge('competing', [...unanswered, seeking, sought, ...consumed(1)]), '');
  });

  it('takes a settle that is confirmed after a seek for the delivery before it', () => {
    const seek: QueueEvent[] = [
      { kind: 'seeking', subscription: SUBSCRIPTION },
      { kind: 'sought', subscription: SUBSCRIPTION, sequence: 1 },
    ];
    const of = (event: QueueEvent, delivery: string): QueueEvent => ({ ...event, delivery }) as QueueEvent;
    const asked = [...stored(1), delivered(1), of(settling(1), 'a'), ...seek, delivered(1), of(settling(1), 'b')];
    assert.equal(judge('competing', [...asked, of(settled(1), 'a'), delivered(1)]), '');
    const confirmed = [...asked, of(settled(1), 'a'), of(settled(1), 'b'), delivered(1)];
    assert.match(judge('competing', confirmed), /came again after it was settled/);
  });

  it('finds what is stored twice, and two messages at one place', () => {
    const twice = [
      ...stored(1),
      ...consumed(1),
      { ...delivered(1), sequence: 2 } as QueueEvent,
      settling(2),
      settled(2),
    ];
    assert.match(judge('competing', twice), /p\/1 is 2 in a delivery to s, and 1 too/);
    assert.match(
      judge('competing', [...stored(1), sent(2), published(2, 1)]),
      /1 is p\/2 in an acknowledgement, and was p\/1/,
    );
  });

  it('finds the messages of a publisher out of their order', () => {
    const swapped = [sent(1), sent(2), published(1, 2), published(2, 1)];
    assert.match(judge('competing', swapped), /p\/2 \(1\) went before 2/);
  });

  it('finds first deliveries out of order and gaps for a single consumer', () => {
    const three = [...stored(1), ...stored(2), ...stored(3)];
    const late = [...three, ...consumed(1), ...consumed(3), ...consumed(2)];
    assert.match(judge('single', late), /p\/3 \(3\) came next after 1/);
    assert.match(judge('single', late), /p\/2 \(2\) came first behind 3/);
    assert.equal(judge('competing', late), '');
  });

  it('finds messages of one key out of order, or two at a time', () => {
    const [a, b] = [delivered(1, { key: 'k' }), delivered(2, { key: 'k' })];
    const two = [...stored(1), ...stored(2)];
    const end = [settling(1), settled(1), settling(2), settled(2)];
    assert.match(judge('ordered', [...two, a, b, ...end]), /came while 1 was not settled/);
    assert.match(judge('ordered', [...two, b, settling(2), a, ...end]), /p\/1 \(1\) with key k came first behind 2/);
    assert.match(judge('ordered', [...two, a, settling(1), b, settling(2), a, ...end]), /came again behind 2/);
    assert.equal(judge('ordered', [...two, a, settling(1), b, { kind: 'killed' }, a, settling(1), b, ...end]), '');
    assert.equal(judge('ordered', [...two, a, delivered(2, { key: 'other' }), ...end]), '');
  });

  it('finds damage, what nobody published, a dead letter that is missing and one that was acknowledged', () => {
    assert.match(
      judge('competing', [...stored(1), delivered(1, { intact: false }), settling(1)]),
      /not what was published/,
    );
    assert.match(judge('competing', [delivered(1), settling(1)]), /never published/);
    const died = [...stored(1), delivered(1), settling(1, 'dead letter'), settled(1)];
    assert.match(judge('competing', died), /died, and has no letter/);
    assert.match(judge('competing', [...stored(1), ...consumed(1)], [{ sequence: 1, id: 'p/1' }]), /is a dead letter/);
  });

  it('finds a slow start and a settle that failed', () => {
    assert.match(judge('competing', [{ kind: 'started', tookMs: 9000, cpuMs: 5001 }]), /the start took 5001 ms/);
    const failed: QueueEvent = { kind: 'settle failed', subscription: SUBSCRIPTION, sequence: 1, reason: 'LEASE_OVER' };
    assert.match(
      judge('competing', [...stored(1), delivered(1), failed, ...consumed(1)]),
      /could not be settled: LEASE_OVER/,
    );
  });

  it('keeps the newest events', () => {
    const one = new QueueJudge();
    for (let n = 1; n <= 100_000; n += 1) one.record(sent(n));
    const lines = one.tail().split('\n');
    assert.equal(lines.length, 20_000);
    assert.equal(lines.at(-1), JSON.stringify(sent(100_000)));
  });
});
