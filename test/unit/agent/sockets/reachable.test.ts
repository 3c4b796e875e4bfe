import assert from 'node:assert/strict';
import { chmod, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { closedOnTheWay } from '../../../../src/agent/sockets/reachable.js';

test('names the uppermost directory that is closed to other users', async (t) => {
  const top = await mkdtemp(join(tmpdir(), 'muster-reach-'));
  t.after(() => rm(top, { recursive: true, force: true }));
  const data = join(top, 'a', 'b');
  await mkdir(data, { recursive: true });
  await chmod(top, 0o711);
  assert.equal(await closedOnTheWay(data), undefined);
  await chmod(join(top, 'a'), 0o700);
  assert.equal(await closedOnTheWay(data), join(top, 'a'));
  await chmod(top, 0o770);
  assert.equal(await closedOnTheWay(data), top);
});
