import type { Random } from '../../src/kit/random.js';
import type { Mutation, Store } from '../../src/store/port.js';

/** Nothing that a killed process was waiting for ever comes. */
const never = new Promise<never>(() => undefined);

/**
 * A disk under a process that is killed in the middle of its n-th write: that write is on the disk or not, by chance, and nothing the
 * process does later is.
 */
export class KilledStore implements Pick<Store, 'write' | 'range' | 'get' | 'watch' | 'close' | 'failed' | 'revision'> {
  readonly #disk: Store;
  readonly #random: Random;
  readonly #onKill: () => void;
  #writesLeft: number;

  constructor(disk: Store, options: { writes: number; random: Random; onKill: () => void }) {
    this.#disk = disk;
    this.#random = options.random;
    this.#writesLeft = options.writes;
    this.#onKill = options.onKill;
  }

  get revision(): number {
    return this.#disk.revision;
  }

  get failed(): Promise<Error> {
    return never;
  }

  get: Store['get'] = (key) => this.#disk.get(key);
  range: Store['range'] = (range) => this.#disk.range(range);
  watch: Store['watch'] = (prefix, signal) => this.#disk.watch(prefix, signal);
  close = (): Promise<void> => Promise.resolve();

  /** The process is killed between two writes. */
  kill(): void {
    if (this.#writesLeft > 0) this.#onKill();
    this.#writesLeft = 0;
  }

  async write(mutations: readonly Mutation[]): Promise<number> {
    this.#writesLeft -= 1;
    if (this.#writesLeft > 0) return this.#disk.write(mutations);
    if (this.#writesLeft === 0) {
      this.#onKill();
      if (this.#random.next() < 0.5) await this.#disk.write(mutations);
    }
    return never;
  }
}
