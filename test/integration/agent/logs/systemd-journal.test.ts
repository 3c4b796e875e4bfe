import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  journalAvailable,
  journalCommand,
  readJournal,
  type JournalItem,
  type JournalOptions,
} from '../../../../src/agent/logs/systemd-journal.js';
import { isCode } from '../../../../src/kit/errors.js';
import { unless } from '../../../support/debian.js';
import { Journald } from '../../../support/journald.js';

const never = new AbortController().signal;

async function read(options: JournalOptions): Promise<NonNullable<JournalItem>[]> {
  const found: NonNullable<JournalItem>[] = [];
  for await (const entry of readJournal(options, never)) if (entry) found.push(entry);
  return found;
}

describe("systemd's journal", { skip: unless('root', 'unshare', 'nsenter', 'journald') }, () => {
  it('gives the last entries of one unit, goes on at a cursor, follows, and keeps to times', async (t) => {
    const journald = await Journald.start();
    t.after(() => journald.close());
    const { journalctl } = journald;
    await journald.log('toy', 'one', 'two', 'of\nthree\nlines', 'bell \u0007');
    await journald.log('other', 'not of toy');
    assert.equal(await journalAvailable(), true);
    const all = await read({ unit: 'toy', journalctl });
    assert.deepEqual(
      all.map(({ message }) => message),
      ['one', 'two', 'of\nthree\nlines', 'bell \u0007'],
    );
    assert.deepEqual(await read({ unit: 'toy', lines: 2, journalctl }), all.slice(2));
    const [, second, third] = all;
    assert.deepEqual(await read({ unit: 'toy', cursor: second?.cursor, journalctl }), all.slice(1));
    const untilMs = (third?.atMs ?? 0) + 1;
    const inTime = await read({ unit: 'toy', sinceMs: all[0]?.atMs, untilMs, journalctl });
    assert.ok(inTime.length >= 3 && inTime.every(({ atMs }) => atMs !== undefined && atMs < untilMs));
    assert.deepEqual(await read({ unit: 'toy', untilMs: all[0]?.atMs, journalctl }), []);

    const stop = new AbortController();
    const followed: string[] = [];
    const following = (async () => {
      for await (const entry of readJournal(
        { unit: 'toy', cursor: all[3]?.cursor, follow: true, journalctl },
        stop.signal,
      )) {
        followed.push(entry?.message ?? '');
        if (entry?.message === 'five') stop.abort();
      }
    })();
    await journald.log('toy', 'four', 'five');
    await following;
    assert.deepEqual(followed, ['bell \u0007', 'four', 'five']);
    await assert.rejects(
      read({ unit: 'toy', cursor: 's=ab;i=1', journalctl }),
      (error) => isCode(error, 'invalid') && error.reason === 'POSITION',
    );
    // A unit nobody knows has no entries; that is no failure.
    assert.deepEqual(await read({ unit: 'nobody', journalctl }), []);
  });
});

describe('the command that reads the journal', () => {
  it('never takes a unit or a cursor for an option or a pattern', () => {
    for (const unit of ['-x', '--file=/etc/passwd', 'a*', '', 'a b', 'a\nb', '../x'])
      assert.throws(
        () => journalCommand({ unit }),
        (error) => isCode(error, 'invalid'),
        unit,
      );
    for (const cursor of ['', '--file=x', 's=1 --x', 's=g'])
      assert.throws(
        () => journalCommand({ unit: 'a', cursor }),
        (error) => isCode(error, 'invalid'),
        cursor,
      );
    const command = journalCommand({ unit: 'a@b.service', lines: 3, follow: true, sinceMs: 1500, untilMs: 2000 });
    assert.deepEqual(command.slice(0, 2), ['journalctl', '--unit=a@b.service']);
    assert.deepEqual(command.slice(-4), ['--lines=3', '--follow', '--since=@1.500000', '--until=@1.999999']);
  });

  it('says that it is not there, or what it said when it failed', async () => {
    assert.equal(await journalAvailable(['no-such-journalctl']), false);
    const failing = ['/bin/sh', '-c', 'echo "no access" >&2; exit 1'];
    await assert.rejects(
      read({ unit: 'a', journalctl: failing }),
      (error) => isCode(error, 'precondition') && /cannot be read: no access/.test(error.message),
    );
    await assert.rejects(read({ unit: 'a', journalctl: ['/no/such'] }), (error) => isCode(error, 'precondition'));
  });

  it('leaves an entry out that is too long, and what is no entry', async () => {
    const script = `echo '-- Journal begins'; head -c 5000000 /dev/zero | tr '\\0' x; echo
      echo '{"__CURSOR":"s=1;i=2","MESSAGE":[104,105,255],"__REALTIME_TIMESTAMP":"1700000000000999"}'
      echo '{"__CURSOR":"s=1;i=3","MESSAGE":["a",[98]]}'; echo '{"MESSAGE":"no cursor"}'; echo '[]'`;
    const items: JournalItem[] = [];
    for await (const item of readJournal({ unit: 'a', journalctl: ['/bin/sh', '-c', script] }, never)) items.push(item);
    assert.deepEqual(items, [
      undefined,
      { cursor: 's=1;i=2', atMs: 1_700_000_000_000, message: 'hi\ufffd' },
      { cursor: 's=1;i=3', atMs: undefined, message: 'a\nb' },
    ]);
  });
});
