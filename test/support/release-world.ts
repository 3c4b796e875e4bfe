import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { signArtifact } from '../../src/archive/signature.js';
import { Instances } from '../../src/center/fleet/instances.js';
import { Archives } from '../../src/center/releases/archives.js';
import type { PutOrder } from '../../src/center/releases/publishing.js';
import { openShelf, type Shelf } from '../../src/center/releases/shelf.js';
import { openTables } from '../../src/center/tables.js';
import { ManualClock } from '../../src/kit/clock.js';
import { silentLogger, type Logger } from '../../src/kit/logger.js';
import type { ReleaseRef } from '../../src/model/release.js';
import { openMemoryStore } from '../../src/store/memory.js';
import type { Store } from '../../src/store/port.js';
import { Releaser, type Packed } from './releases.js';

/** A center's releases over a disk and a store that outlive them. */
export class ReleaseWorld {
  readonly clock = new ManualClock(Date.now());
  readonly releaser: Releaser;
  readonly directory: string;
  /** What operations need. */
  inUse: ReleaseRef[] = [];
  /** What the next start reads and writes. */
  store: Store;

  private constructor(releaser: Releaser, directory: string, store: Store) {
    this.releaser = releaser;
    this.directory = directory;
    this.store = store;
  }

  static async open(t: TestContext): Promise<ReleaseWorld> {
    const directory = await mkdtemp(join(tmpdir(), 'muster-publishing-'));
    t.after(() => rm(directory, { recursive: true, force: true }));
    return new ReleaseWorld(await Releaser.open(t), directory, await openMemoryStore());
  }

  /** What a process that starts now sees. */
  async start(logger: Logger = silentLogger): Promise<Shelf> {
    const { clock } = this;
    const tables = await openTables(this.store, clock, logger);
    const archives = await Archives.open({ directory: join(this.directory, 'artifacts'), clock, logger });
    const shelf = openShelf({
      ...tables,
      archives,
      instances: new Instances(tables.instances, clock, () => undefined),
      serviceNames: () => ['declared'],
      machineName: (machine) => machine,
      inUse: () => this.inUse,
      clock,
      logger,
    });
    return shelf;
  }

  /** As the operator ann, with her key. */
  order({ kind, name, version, digest }: Packed, key = this.releaser.key): PutOrder {
    const signature = signArtifact(key.privateKey, kind, { name, version, digest });
    return { digest, signature, note: '', by: 'operator ann', validateOnly: false };
  }

  async upload({ archives }: Shelf, { digest, bytes }: Packed): Promise<void> {
    const chunks = (async function* () {
      await Promise.resolve();
      yield bytes;
    })();
    await archives.receive({ digest, sizeBytes: bytes.length, offset: 0 }, chunks);
  }

  async enroll({ keys }: Shelf): Promise<void> {
    await keys.enroll('ann', this.releaser.key.publicKey);
  }

  async push(shelf: Shelf, packed: Packed): Promise<void> {
    await this.upload(shelf, packed);
    await (packed.kind === 'release'
      ? shelf.publishing.putRelease(this.order(packed))
      : shelf.publishing.putModule(this.order(packed)));
  }
}
