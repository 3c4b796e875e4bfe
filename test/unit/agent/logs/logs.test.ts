import assert from 'node:assert/strict';
import { link, mkdir, mkdtemp, readdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { loggedService, statFile, type LoggedService } from '../../../../src/agent/logs/files.js';
import { Journal } from '../../../../src/agent/logs/journal.js';
import { Logs } from '../../../../src/agent/logs/logs.js';
import { planSpace } from '../../../../src/agent/logs/space.js';
import { systemClock } from '../../../../src/kit/clock.js';
import { createLogger } from '../../../../src/kit/logger.js';
import { parseManifest } from '../../../../src/model/manifest.js';

const KIB = 1024;
const LINES = 'a line of a log that somebody wrote\n'.repeat(4 * KIB);

interface Bench {
  readonly data: string;
  readonly said: string[];
  readonly open: (...services: LoggedService[]) => Logs;
  readonly add: (service: string) => Promise<LoggedService>;
}

async function bench(t: TestContext): Promise<Bench> {
  const data = await mkdtemp(join(tmpdir(), 'muster-logs-'));
  t.after(() => rm(data, { recursive: true, force: true }));
  const said: string[] = [];
  const logger = createLogger('warn', { write: (line) => void said.push(line) });
  return {
    data,
    said,
    open: (...services) =>
      new Logs({
        dataDirectory: data,
        services: () => services,
        clock: systemClock,
        logger,
        freeSpaceFloorBytes: 0,
        journalctl: ['no-such-journalctl'],
      }),
    add: async (service) => {
      const root = join(data, 'logs', service);
      await mkdir(root, { recursive: true });
      await writeFile(join(root, `${service}.log`), LINES);
      return { service, root, logs: { files: ['*.log'], maxSizeBytes: 64 * KIB, keep: 9, maxAgeMs: 1e12 } };
    },
  };
}

const isRotated = async ({ root, service }: LoggedService): Promise<boolean> =>
  (await readdir(root)).includes(`${service}.log.000001`);

describe('a rotation that cannot be finished', () => {
  it('holds up no other file, of its own service or another, and is said once', async (t) => {
    const b = await bench(t);
    const [bad, good] = [await b.add('bad'), await b.add('good')];
    await writeFile(join(bad.root, 'other.log'), LINES);
    // Its entry is left, and meanwhile the service put a link where the log was.
    const journal = new Journal(join(b.data, 'logs', '.rotation'));
    await journal.load();
    const place = { service: 'bad', root: bad.root, name: 'bad.log', base: 'bad.log', target: 'bad.log.000001' };
    await journal.write({ ...place, inode: 1, from: 0, end: 100, step: 'cut', way: 'collapse' });
    await rename(join(bad.root, 'bad.log'), join(b.data, 'elsewhere'));
    await symlink(join(b.data, 'elsewhere'), join(bad.root, 'bad.log'));
    const logs = b.open(bad, good);
    await logs.check();
    await logs.check();
    assert.ok(await isRotated(good), 'the log of another service');
    assert.ok((await readdir(bad.root)).includes('other.log.000001'), 'another log of the same service');
    assert.equal(b.said.length, 1, b.said.join(''));
    assert.match(b.said[0] ?? '', /bad\.log.*an interrupted rotation of a log could not be finished/);
    // Once the link is gone, so is what stood in the way.
    await rm(join(bad.root, 'bad.log'));
    await writeFile(join(bad.root, 'bad.log'), LINES);
    await logs.check();
    assert.ok(await isRotated(bad));
    assert.deepEqual(await journal.load(), { entries: [], unreadable: [] });
  });

  it('because its entry cannot be read is set aside and said; all logs are rotated', async (t) => {
    const b = await bench(t);
    const good = await b.add('good');
    const directory = join(b.data, 'logs', '.rotation');
    await mkdir(directory, { recursive: true });
    for (const [name, text] of [
      ['00.json', '{"service":"goo'],
      ['01.json', '{"service":7}'],
      ['02.json', 'null'],
    ] as const) {
      await writeFile(join(directory, name), text);
    }
    await b.open(good).check();
    assert.ok(await isRotated(good));
    assert.equal(b.said.filter((line) => /set aside/.test(line) && line.includes('.unreadable')).length, 3);
    const left = ['00.json.unreadable', '01.json.unreadable', '02.json.unreadable'];
    assert.deepEqual((await readdir(directory)).sort(), left);
    await b.open(good).check();
    assert.equal(b.said.length, 3, 'it is said once');
  });

  it('because it failed half-way does not keep another service from being rotated, and is done later', async (t) => {
    const b = await bench(t);
    const [bad, good] = [await b.add('bad'), await b.add('good')];
    const journal = new Journal(join(b.data, 'logs', '.rotation'));
    const write = journal.write.bind(journal);
    t.mock.method(Journal.prototype, 'write', async (entry: Parameters<Journal['write']>[0]) => {
      if (entry.service === 'bad') throw new Error('no space left');
      await write(entry);
    });
    const logs = b.open(bad, good);
    await logs.check();
    assert.ok(await isRotated(good));
    assert.ok(!(await isRotated(bad)));
    assert.match(b.said[0] ?? '', /bad\.log.*a log could not be rotated/);
    t.mock.restoreAll();
    await logs.check();
    assert.ok(await isRotated(bad));
  });
});

describe('what a log file is', () => {
  it('no link, no second name, no directory', async (t) => {
    const b = await bench(t);
    const { root } = await b.add('one');
    await symlink('one.log', join(root, 'soft.log'));
    await mkdir(join(root, 'sub.log'));
    assert.equal((await statFile(root, 'one.log'))?.bytes, LINES.length);
    for (const name of ['soft.log', 'sub.log', 'none.log', 'one.log/below'])
      assert.equal(await statFile(root, name), undefined, name);
    await link(join(root, 'one.log'), join(b.data, 'second'));
    assert.equal(await statFile(root, 'one.log'), undefined, 'a second name');
  });
});

describe('tail of a service the agent does not start itself', () => {
  const manifest = (rest: string) => parseManifest(`name: web\nversion: 1.0.0\n${rest}`, { file: 'web' });
  const texts = async (logs: Logs): Promise<string[]> => {
    const found: string[] = [];
    const never = new AbortController().signal;
    for await (const { text, notice } of logs.tail('web', { lines: 10, follow: false }, never))
      found.push(`${notice ? 'notice ' : ''}${text}`);
    return found;
  };

  it('says why there is nothing, and where to look', async (t) => {
    const b = await bench(t);
    const root = join(b.data, 'logs', 'web');
    await mkdir(root, { recursive: true });
    const systemd = loggedService(manifest('driver: systemd\nunit: nginx\n'), root);
    const [notice, ...others] = await texts(b.open(systemd));
    assert.match(notice ?? '', /^notice this service writes no log file web\.log here: .*"journalctl -u nginx"/);
    assert.deepEqual(others, []);
    const sysv = loggedService(manifest('driver: sysv\nunit: nginx\nlogs: { files: [access.log] }\n'), root);
    assert.match((await texts(b.open(sysv)))[0] ?? '', /init script nginx.*its own log files are access\.log in /);
    await writeFile(join(root, 'web.log'), 'a line\n');
    assert.deepEqual(await texts(b.open(systemd)), ['a line'], 'where there are lines, they are all that is shown');
  });

  it('is silent about a service that has not printed yet', async (t) => {
    const b = await bench(t);
    const root = join(b.data, 'logs', 'web');
    await mkdir(root, { recursive: true });
    assert.deepEqual(await texts(b.open(loggedService(manifest('command: [/bin/true]\n'), root))), []);
  });
});

describe('what goes when the disk is nearly full', () => {
  const service = (name: string): LoggedService => {
    return { service: name, root: `/${name}`, logs: { files: ['*.log'], maxSizeBytes: 1, keep: 9, maxAgeMs: 1e12 } };
  };
  const file = (name: string, atMs: number, mib = 2) => ({ name, bytes: mib * KIB * KIB, atMs });

  it('are rotated files first, the oldest of all services first, then the fronts of live logs that are not small', () => {
    const all = [
      { logged: service('a'), files: [file('a.log', 9), file('a.log.000001.gz', 5), file('a.log.000002', 7)] },
      { logged: service('b'), files: [file('b.log', 9), file('b.log.000001', 6), file('small.log', 9, 1)] },
      { logged: service('c'), files: [file('c.log', 9), file('c.log.000001', 1), file('data.db', 1)] },
    ];
    const plan = planSpace(all, ({ root, name }) => root === '/c' && name === 'c.log');
    assert.deepEqual(
      plan.rotated.map((one) => one.file.name),
      ['a.log.000001.gz', 'b.log.000001', 'a.log.000002'],
      'but for one whose rotation is not finished',
    );
    assert.deepEqual(
      plan.live.map((one) => one.file.name),
      ['a.log', 'b.log'],
    );
  });
});

describe('a tail of very long lines', () => {
  const PIECE = 64 * KIB;

  async function read(t: TestContext, text: string, how: { lines: number; follow: boolean; pieces: number }) {
    const b = await bench(t);
    const one = await b.add('one');
    await writeFile(join(one.root, 'one.log'), text);
    const end = new AbortController();
    const read: string[] = [];
    for await (const line of b.open(one).tail('one', how, end.signal)) {
      read.push(line.text);
      if (how.follow && read.length === how.pieces) end.abort();
    }
    return read;
  }

  // An odd byte first, so that a character stands across the end of each piece.
  const long = `x${'ü'.repeat(3 * PIECE)}`;

  for (const [what, text] of [
    ['ended', `first\n${long}\n`],
    ['not ended', `first\n${long}`],
  ] as const) {
    it(`gives them in pieces that cut no character: ${what}`, async (t) => {
      const pieces = await read(t, text, { lines: 1, follow: false, pieces: 7 });
      assert.ok(pieces.length > 1 && pieces.every((piece) => Buffer.byteLength(piece) <= PIECE));
      assert.equal(pieces.join(''), long);
    });
  }

  it('gives what has begun when it follows', async (t) => {
    const pieces = await read(t, `first\n${long}`, { lines: 1, follow: true, pieces: 7 });
    assert.equal(pieces[0], 'first');
    assert.ok(long.startsWith(pieces.slice(1).join('')));
    assert.ok(pieces.every((piece) => Buffer.byteLength(piece) <= PIECE));
  });
});
