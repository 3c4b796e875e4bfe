import assert from 'node:assert/strict';
import { hostname } from 'node:os';
import { test } from 'node:test';
import { askSystem, InventoryKeeper } from '../../../../src/agent/resources/inventory.js';
import { systemClock } from '../../../../src/kit/clock.js';
import { silentLogger } from '../../../../src/kit/logger.js';
import type { Inventory } from '../../../../src/model/machine.js';

test('this machine’s inventory is collected by a child process, with its disks', async (t) => {
  if (process.platform !== 'linux') {
    t.skip('needs Linux');
    return;
  }
  const controller = new AbortController();
  const keeper = new InventoryKeeper({ clock: systemClock, logger: silentLogger });
  const inventory = await new Promise<Inventory>((resolve, reject) => {
    keeper.onCollected(resolve);
    keeper.run(controller.signal).catch(reject);
  });
  controller.abort();
  assert.equal(inventory.hostname, hostname());
  assert.ok(inventory.cores > 0 && inventory.memoryBytes > 0);
  assert.ok(inventory.disks.length > 0, 'the child answered');
  assert.ok(inventory.disks.every((disk) => disk.sizeBytes > 0 && disk.mount.startsWith('/')));
});

test('asking ends when it is stopped', async () => {
  const controller = new AbortController();
  const asking = askSystem(controller.signal);
  controller.abort();
  await assert.rejects(asking, { name: 'AbortError' });
});
