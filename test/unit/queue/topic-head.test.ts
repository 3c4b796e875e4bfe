import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { TopicHead } from '../../../src/queue/topic-head.js';

describe('the head of a topic', () => {
  it('is where it was written to, when the part that would have moved it further was refused', () => {
    const moves: number[] = [];
    const head = new TopicHead(1, { head: 1, offset: 0 }, (to) => moves.push(to));
    head.want({ head: 5, offset: 50 });
    assert.deepEqual(head.contribute(), [{ kind: 'head', topicId: 1, head: 5, offset: 50 }]);
    assert.equal(head.further({ head: 9, offset: 90 }).head, 9);
    head.committed();
    head.leave();
    assert.deepEqual([head.durable.head, moves], [5, [5]]);
  });

  it('is the furthest when both parts are written, whichever comes first', () => {
    const head = new TopicHead(1, { head: 1, offset: 0 }, () => undefined);
    head.want({ head: 5, offset: 50 });
    const place = head.further({ head: 9, offset: 90 });
    assert.deepEqual(head.contribute(), head.changeTo(place));
    head.moved(place);
    head.committed();
    assert.deepEqual(head.durable, place);
  });
});
