import assert from 'node:assert/strict';
import { chmod, chown, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import type { ServiceSource } from '../../../../src/agent/ports.js';
import { UnitFiles } from '../../../../src/agent/services/unit-files.js';
import { systemClock } from '../../../../src/kit/clock.js';
import { silentLogger } from '../../../../src/kit/logger.js';
import { parseManifest, type Manifest } from '../../../../src/model/manifest.js';
import { openMemoryStore } from '../../../../src/store/memory.js';
import { unless } from '../../../support/debian.js';
import { failureOf } from '../../../support/rpc.js';

const MINE = '[Service]\nExecStart=@RELEASE@/run --modules=@MODULES@ --user @USER@ @OTHER@ %n\n';

class Bench {
  readonly units: UnitFiles;
  readonly directory: string;
  readonly #options: ConstructorParameters<typeof UnitFiles>[0];

  private constructor(directory: string, options: ConstructorParameters<typeof UnitFiles>[0]) {
    this.directory = directory;
    this.#options = options;
    this.units = new UnitFiles(options);
  }

  static async open(t: TestContext): Promise<Bench> {
    const directory = await mkdtemp(join(tmpdir(), 'muster-units-'));
    t.after(() => rm(directory, { recursive: true, force: true }));
    await mkdir(join(directory, 'units'));
    const script = `echo "$@" >> ${directory}/calls; [ $1 = show ] && exec cat ${directory}/known; exit $(cat ${directory}/exit 2>/dev/null || echo 0)`;
    return new Bench(directory, {
      store: await openMemoryStore(),
      clock: systemClock,
      logger: silentLogger,
      directory: join(directory, 'units'),
      systemctl: ['/bin/sh', '-c', script, 'systemctl'],
    });
  }

  /** As the next agent on the same data. */
  next(): UnitFiles {
    return new UnitFiles(this.#options);
  }

  async release(version: string, files: Readonly<Record<string, string>>, more = ''): Promise<ServiceSource> {
    const folder = join(this.directory, version);
    await mkdir(folder);
    for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), text);
    const ref = { service: 'web', version, digest: version, modules: [], configRevision: 0 };
    const manifest = webManifest(more);
    return { manifest, manifestText: '', folder, release: { ref, deployedMs: 0, verified: false } };
  }

  become(source: ServiceSource | undefined, runBy?: Manifest, units = this.units): Promise<void> {
    const release = source?.folder ?? '';
    return units.become('web', source, runBy, {
      RELEASE: release,
      CURRENT: '/current',
      SHARED: '/shared',
      LOGS: '/logs',
      MODULES: `${release}/modules`,
      USER: 'web',
    });
  }

  write(name: string, text: string): Promise<void> {
    return writeFile(join(this.directory, 'units', name), text);
  }

  async files(): Promise<Record<string, string>> {
    const names = (await readdir(join(this.directory, 'units'))).sort();
    const texts = await Promise.all(names.map((name) => readFile(join(this.directory, 'units', name), 'utf8')));
    return Object.fromEntries(names.map((name, index) => [name, texts[index] ?? '']));
  }

  async reloads(): Promise<number> {
    const text = await readFile(join(this.directory, 'calls'), 'utf8').catch(() => '');
    return text.split('\n').filter((line) => line === 'daemon-reload').length;
  }
}

function webManifest(more = ''): Manifest {
  return parseManifest(`name: web\nversion: 1.0.0\ndriver: systemd\n${more}`, { file: 'web' });
}

describe('the unit file of a release', () => {
  it('is installed with absolute paths and loaded, again when that changes, and removed where there was none', async (t) => {
    const b = await Bench.open(t);
    const one = await b.release('1', { 'web.service': MINE });
    await b.become(one);
    const text = `[Service]\nExecStart=${one.folder}/run --modules=${one.folder}/modules --user web @OTHER@ %n\n`;
    assert.deepEqual([await b.files(), await b.reloads()], [{ 'web.service': text }, 1]);
    await b.become(one);
    await b.become(one, undefined, b.next());
    assert.equal(await b.reloads(), 1, 'the same is not loaded again');
    const two = await b.release('2', { 'web.service': '[Service]\nExecStart=@CURRENT@ @SHARED@ @LOGS@\n' });
    await b.become(two, one.manifest);
    assert.equal((await b.files())['web.service'], '[Service]\nExecStart=/current /shared /logs\n');
    await b.become(await b.release('3', { 'other.service': MINE }), two.manifest);
    assert.deepEqual([await b.files(), await b.reloads()], [{}, 3]);
    await b.become(two);
    await b.become(undefined, two.manifest);
    await b.become(undefined);
    assert.deepEqual([await b.files(), await b.reloads()], [{}, 5]);
  });

  it('moves with its name', async (t) => {
    const b = await Bench.open(t);
    await b.become(await b.release('1', { 'web.service': 'one' }));
    await b.become(await b.release('2', { 'site.service': 'two' }, 'unit: site\n'), webManifest());
    assert.deepEqual(await b.files(), { 'site.service': 'two' });
  });

  it('does not replace one that others installed, unless the service is run through it: then that is put back', async (t) => {
    const b = await Bench.open(t);
    const one = await b.release('1', { 'web.service': 'ours' });
    await b.write('web.service', 'theirs');
    const { code, message } = await failureOf(b.become(one));
    assert.equal(code, 'precondition');
    assert.match(message, /web\.service is there, Muster did not install it.*remove it/);
    await failureOf(b.become(one, webManifest('unit: another\n')));
    assert.deepEqual([await b.files(), await b.reloads()], [{ 'web.service': 'theirs' }, 0]);
    await b.become(one, webManifest());
    assert.deepEqual(await b.files(), { 'web.service': 'ours' });
    await b.become(await b.release('2', { 'web.service': 'ours, too' }), webManifest(), b.next());
    await b.become(undefined, webManifest(), b.next());
    assert.deepEqual(await b.files(), { 'web.service': 'theirs' });
  });

  it('does not hide one that is known from elsewhere, unless the service is run through it', async (t) => {
    const b = await Bench.open(t);
    await writeFile(join(b.directory, 'known'), '/lib/systemd/system/web.service\n');
    const one = await b.release('1', { 'web.service': 'ours' });
    assert.match(
      (await failureOf(b.become(one))).message,
      /known to systemd from \/lib\/systemd\/system\/web\.service/,
    );
    await b.become(one, webManifest());
    assert.deepEqual(await b.files(), { 'web.service': 'ours' });
    await b.become(undefined, webManifest());
    assert.deepEqual(await b.files(), {});
  });

  it('that systemd does not take is told, and loaded by the next try though the file is there already', async (t) => {
    const b = await Bench.open(t);
    const one = await b.release('1', { 'web.service': 'ours' });
    await writeFile(join(b.directory, 'exit'), '1');
    assert.match((await failureOf(b.become(one))).message, /daemon-reload failed/);
    await rm(join(b.directory, 'exit'));
    await b.become(one, undefined, b.next());
    assert.equal(await b.reloads(), 2);
    await writeFile(join(b.directory, 'exit'), '1');
    await failureOf(b.become(undefined));
    await rm(join(b.directory, 'exit'));
    await b.become(undefined, undefined, b.next());
    assert.deepEqual([await b.files(), await b.reloads()], [{}, 4]);
  });

  it('is left alone where it is a link, and refused where the release has one', async (t) => {
    const b = await Bench.open(t);
    const one = await b.release('1', { 'web.service': 'ours' });
    await symlink('/dev/null', join(b.directory, 'units/web.service'));
    assert.match((await failureOf(b.become(one, webManifest()))).message, /is a link, as of a unit that is masked/);
    const two = await b.release('2', { real: 'ours' });
    await symlink('real', join(two.folder, 'web.service'));
    assert.match((await failureOf(b.become(two))).message, /is a link: put the unit file itself/);
  });

  it('is not used where others than the agent may have changed it', { skip: unless('root') }, async (t) => {
    const b = await Bench.open(t);
    const one = await b.release('1', { 'web.service': 'ours' });
    const file = join(one.folder, 'web.service');
    for (const [spoil, mend] of [
      [() => chown(file, 65534, 65534), () => chown(file, 0, 0)],
      [() => chown(one.folder, 65534, 65534), () => chown(one.folder, 0, 0)],
      [() => chmod(file, 0o666), () => chmod(file, 0o644)],
      [() => chmod(one.folder, 0o777), () => chmod(one.folder, 0o755)],
    ] as const) {
      await spoil();
      assert.match((await failureOf(b.become(one))).message, /others than the agent may have changed it/);
      await mend();
    }
    assert.deepEqual(await b.files(), {});
    await b.become(one);
    assert.deepEqual(await b.files(), { 'web.service': 'ours' });
  });
});
