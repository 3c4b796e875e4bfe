/**
 * Three deploys of a machine, one after the other: a first one, an upgrade with a hook and a module, and one whose verify fails.
 *   node --import tsx recorded-host.ts DIRECTORY
 * Says on standard output, line by line, what its record says: before a write of it and after. The disk of the record is another one.
 */
import { writeSync } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { syncDirectory } from '../../../../src/kit/files.js';
import type { DeployOrder } from '../../../../src/model/release.js';
import { openMemoryStore } from '../../../../src/store/memory.js';
import type { Store } from '../../../../src/store/port.js';
import { FakeMachine, newWorld, openDeploys, Shelf } from '../../../support/deploying.js';

const [, , directory = ''] = process.argv;

function say(word: string, what: unknown): void {
  writeSync(1, `${word} ${JSON.stringify(what)}\n`);
}

const memory = await openMemoryStore();
const store: Store = {
  get revision() {
    return memory.revision;
  },
  get: (key) => memory.get(key),
  range: (range) => memory.range(range),
  watch: (prefix, signal) => memory.watch(prefix, signal),
  write: async (mutations) => {
    const puts = mutations.map((one) => ({
      key: one.key,
      value: one.kind === 'put' ? (JSON.parse(Buffer.from(one.value).toString()) as unknown) : undefined,
    }));
    say('writing', puts);
    const revision = await memory.write(mutations);
    say('wrote', puts);
    return revision;
  },
  failed: memory.failed,
  close: () => memory.close(),
};
const data = join(directory, 'data');
await mkdir(join(data, 'services'), { recursive: true });
for (const made of [join(data, 'services'), data, directory]) await syncDirectory(made);
const orders = JSON.parse(await readFile(join(directory, '..', 'orders.json'), 'utf8')) as readonly DeployOrder[];
const shelf = new Shelf(join(directory, '..', 'shelf'));
const machine = new FakeMachine(newWorld());
const deploys = await openDeploys({ data, shelf }, store, machine);
for (const [n, order] of orders.entries()) {
  const { outcome } = await deploys.deploy(`c-${n}`, order, () => undefined);
  say('ended', outcome);
}
