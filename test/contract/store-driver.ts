import type { Store } from '../../src/store/port.js';

/** One place a store can live: opened, closed and opened again. */
export interface Place {
  /** Opens the store of this place. */
  open(): Promise<Store>;
  /** Makes the open store's next write fail as a disk does; absent where a driver cannot fail. */
  breakWrites?(): void;
  /** Removes all of it, with the stores open in it. */
  remove(): Promise<void>;
}

export interface Driver {
  readonly name: string;
  /** Whether what is written is there after close and open. */
  readonly durable: boolean;
  place(): Promise<Place>;
}
