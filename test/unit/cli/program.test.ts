import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { runCli } from '../../../src/cli/program.js';
import { GROUPS } from '../../../src/cli/group.js';
import { VERSION } from '../../../src/model/version.js';
import { fakeIo } from '../../support/io.js';

describe('the command line', () => {
  let home = '';
  before(async () => {
    home = await mkdtemp(join(tmpdir(), 'muster-cli-'));
  });
  after(() => rm(home, { recursive: true }));

  it('has the version of package.json', async () => {
    const packageJson = JSON.parse(await readFile(new URL('../../../package.json', import.meta.url), 'utf8')) as {
      version: string;
    };
    assert.equal(VERSION, packageJson.version);
    const io = fakeIo({ home });
    assert.equal(await runCli(['--version'], io), 0);
    assert.equal(io.written().trim(), VERSION);
  });

  it('shows help and wrong usage without a command', async () => {
    const io = fakeIo({ home });
    assert.equal(await runCli([], io), 2);
    for (const word of Object.keys(GROUPS)) assert.match(io.written(), new RegExp(`\\b${word}\\b`));
  });

  it('names the nearest command, with exit status 2', async () => {
    const io = fakeIo({ home });
    assert.equal(await runCli(['machnies'], io), 2);
    assert.match(io.complained(), /no command "machnies"\. Did you mean "machines"\?/);
  });

  it('answers a wrong option, a missing argument and a wrong value with exit status 2', async () => {
    for (const argv of [
      ['machines', '--nonsense'],
      ['start'],
      ['logs', 'tail', 'x', '--lines', 'many'],
      ['token', 'create', '--lifetime', 'soon'],
      ['agent', 'join', 'host:1', '--token', 't', '--label', 'novalue'],
      ['token', 'create', '--machine', 'a', '--operator', 'b'],
      ['token', 'create', '--machine', 'a', '--queue'],
      ['token', 'create', '--name', 'a'],
    ]) {
      const io = fakeIo({ home });
      assert.equal(await runCli(argv, io), 2, argv.join(' '));
      assert.notEqual(io.complained(), '');
    }
  });

  it('says wrong usage in JSON where JSON is asked for', async () => {
    for (const argv of [
      ['start', '--json'],
      ['machines', '--nonsense', '--json'],
      ['--json', 'machnies'],
    ]) {
      const io = fakeIo({ home });
      assert.equal(await runCli(argv, io), 2, argv.join(' '));
      const parsed = JSON.parse(io.complained()) as { error: { code: string; reason: string; message: string } };
      assert.deepEqual([parsed.error.code, parsed.error.reason], ['invalid', 'USAGE']);
      assert.notEqual(parsed.error.message, '');
    }
  });

  it('says what to do when there is no center, in words and in JSON', async () => {
    const words = fakeIo({ home });
    assert.equal(await runCli(['machines'], words), 1);
    assert.match(words.complained(), /no center found on this machine: start one with "muster dev"/);
    const json = fakeIo({ home });
    assert.equal(await runCli(['machines', '--json'], json), 1);
    const parsed = JSON.parse(json.complained()) as { error: { code: string; message: string } };
    assert.equal(parsed.error.code, 'not_found');
    assert.equal(json.written(), '');
  });

  it('says which socket nobody answers on', async () => {
    const io = fakeIo({ home });
    assert.equal(await runCli(['machines', '--socket', join(home, 'none.sock')], io), 1);
    assert.match(io.complained(), /none\.sock/);
  });

  it('knows every group by the words it registers', async () => {
    const io = fakeIo({ home });
    for (const word of Object.keys(GROUPS)) {
      const one = fakeIo({ home });
      assert.equal(await runCli([word, '--help'], one), 0, `${word}: ${one.complained()}`);
      assert.match(one.written(), new RegExp(`^Usage: muster ${word}`));
    }
    assert.equal(io.written(), '');
  });

  it('prints a completion script that completes commands, their own commands and options', async () => {
    const io = fakeIo({ home });
    assert.equal(await runCli(['completion'], io), 0);
    const complete = (...words: string[]): string[] => {
      const line = `COMP_WORDS=(muster ${words.map((word) => `'${word}'`).join(' ')}); COMP_CWORD=${words.length}`;
      const script = `${io.written()}\n${line}\n_muster\nprintf '%s\\n' "\${COMPREPLY[@]}"`;
      return execFileSync('bash', ['-c', script], { encoding: 'utf8' }).trim().split('\n');
    };
    assert.deepEqual(complete('mach'), ['machines']);
    assert.deepEqual(complete('ops', 'pa'), ['pause']);
    assert.deepEqual(complete('config', 'ado'), ['adoption']);
    assert.deepEqual(complete('logs', 'g'), ['grep']);
    assert.deepEqual(complete('restart', 'orders', '--ca'), ['--canary']);
    assert.deepEqual(complete('restart', 'orders', '--bat'), ['--batch']);
    assert.deepEqual(complete('logs', 'grep', 'orders', '--max-l'), ['--max-lines']);
    assert.deepEqual(complete('logs', 'grep', 'orders', '--js'), ['--json']);
    assert.deepEqual(complete('restart', 'orders', '--expi'), [''], 'the older name is for those who know it');
  });
});
