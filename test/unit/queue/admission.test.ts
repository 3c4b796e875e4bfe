import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Admission, ADMITTED_BYTES_MAX, WAITING_BYTES_MAX } from '../../../src/queue/admission.js';
import { turns } from '../../support/queue-parts.js';

/** What a batch counts beside its messages. */
const OVERHEAD = 512;

describe('letting bytes in', () => {
  function admitting(batchesOf100: number): {
    admission: Admission;
    entered: string[];
    enter: (name: string, bytes?: number) => void;
  } {
    const admission = new Admission(batchesOf100 * (100 + OVERHEAD));
    const entered: string[] = [];
    const enter = (name: string, bytes = 100): void => {
      const waiting = admission.enter(bytes);
      if (waiting) void waiting.then(() => entered.push(name));
      else entered.push(name);
    };
    return { admission, entered, enter };
  }

  it('lets in what fits, and the others in turn', async () => {
    const { admission, entered, enter } = admitting(2);
    for (const name of ['a', 'b', 'c', 'd']) enter(name);
    await turns(1);
    assert.deepEqual(entered, ['a', 'b']);
    admission.release(100);
    await turns(1);
    assert.deepEqual(entered, ['a', 'b', 'c']);
    admission.release(100);
    admission.release(100);
    await turns(1);
    assert.deepEqual(entered, ['a', 'b', 'c', 'd']);
  });

  it('lets nobody overtake one who waits', async () => {
    const { admission, entered, enter } = admitting(2);
    enter('a');
    enter('large', 400);
    enter('small', 0);
    await turns(1);
    assert.deepEqual(entered, ['a']);
    admission.release(100);
    await turns(1);
    assert.deepEqual(entered, ['a', 'large']);
    admission.release(400);
    await turns(1);
    assert.deepEqual(entered, ['a', 'large', 'small']);
  });

  it('lets in alone what is larger than all', async () => {
    const { admission, entered, enter } = admitting(1);
    enter('huge', 1_000_000);
    enter('next');
    await turns(1);
    assert.deepEqual(entered, ['huge']);
    admission.release(1_000_000);
    await turns(1);
    assert.deepEqual(entered, ['huge', 'next']);
  });

  it('counts batches that are nearly empty', () => {
    const admission = new Admission();
    let count = 0;
    while (admission.enter(0) === undefined) count += 1;
    assert.equal(count, ADMITTED_BYTES_MAX / OVERHEAD);
  });

  it('refuses single calls when very much waits already, and takes them again when it does not', async () => {
    const admission = new Admission(1);
    const large = 16 * 1024 * 1024;
    await admission.enterOnce(large);
    let entered = 0;
    for (let waiting = 0; waiting < WAITING_BYTES_MAX; waiting += large) {
      void admission.enterOnce(large).then(() => (entered += 1));
    }
    await assert.rejects(admission.enterOnce(1), { code: 'exhausted', reason: 'BUSY', retryAfterMs: 100 });
    admission.release(large);
    await turns(1);
    assert.equal(entered, 1);
    const next = admission.enterOnce(1);
    for (let released = 0; released < 4; released += 1) {
      admission.release(large);
      await turns(1);
    }
    await next;
  });
});
