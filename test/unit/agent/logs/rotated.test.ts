import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readdir, readlink, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
import { RotatedReader } from '../../../../src/agent/logs/rotated.js';
import { waitFor } from '../../../support/waiting.js';

const KIB = 1024;

describe('a rotated file', () => {
  it('is read from any place, compressed or not, and let go when it is removed', async (t) => {
    const root = await mkdtemp(join(tmpdir(), 'muster-rotated-'));
    t.after(() => rm(root, { recursive: true, force: true }));
    const bytes = randomBytes(2048 * KIB);
    const [plain, zipped] = [join(root, 'a.log.000001'), join(root, 'a.log.000001.gz')];
    await writeFile(plain, bytes);
    const at = 777_777;
    const reader = new RotatedReader({ root, name: 'a.log.000001' }, at);
    const parts = [await reader.read(64 * KIB)];
    await writeFile(zipped, gzipSync(bytes));
    await rm(plain);
    parts.push(await reader.read(64 * KIB), await reader.read(64 * KIB));
    const found = Buffer.concat(parts.map((part) => part ?? assert.fail('it is gone')));
    assert.ok(found.length > 64 * KIB);
    assert.ok(found.equals(bytes.subarray(at, at + found.length)));
    const isHeld = async (): Promise<boolean> => {
      const held = (await readdir('/proc/self/fd')).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => ''));
      return (await Promise.all(held)).some((path) => path.startsWith(root));
    };
    assert.ok(await isHeld());
    await rm(zipped);
    reader.letGo();
    await waitFor('it to be let go', async () => !(await isHeld()));
    assert.equal(await reader.read(64 * KIB), undefined);
  });
});
