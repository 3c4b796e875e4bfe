import { stat } from 'node:fs/promises';
import { digestFile, type FileDigest } from '../../archive/digest.js';
import { MusterError } from '../../kit/errors.js';
import { Slots } from '../../kit/slots.js';

/** Files read at once to check their digest. More wait. */
const CHECKS_MAX = 2;

interface Digested extends FileDigest {
  /** Changes when the file's content does. */
  readonly stamp: string;
}

/** Which archives were seen to be what their digest says, and which are not. */
export class Soundness {
  readonly #slots = new Slots(CHECKS_MAX);
  /** Stamps of files whose digest was right. */
  readonly #sound = new Map<string, string>();
  readonly #damaged = new Map<string, string>();
  readonly #checking = new Map<string, Promise<void>>();

  /** What is wrong with it, for people; undefined: nothing that is known. */
  damageOf(digest: string): string | undefined {
    return this.#damaged.get(digest);
  }

  sound(digest: string, stamp: string): void {
    this.#sound.set(digest, stamp);
    this.#damaged.delete(digest);
  }

  damaged(digest: string, damage: string): void {
    this.#sound.delete(digest);
    this.#damaged.set(digest, damage);
  }

  forget(digest: string): void {
    this.#sound.delete(digest);
    this.#damaged.delete(digest);
  }

  /**
   * Makes sure that the file is what its digest says, reading it unless that was done since it last changed. Those who ask together wait for
   * the same reading.
   * @throws data_loss; system errors
   */
  async check(digest: string, file: { readonly path: string; readonly sizeBytes: number }): Promise<void> {
    const running = this.#checking.get(digest);
    if (running) return running;
    const checking = this.#check(digest, file);
    this.#checking.set(digest, checking);
    try {
      await checking;
    } finally {
      this.#checking.delete(digest);
    }
  }

  /** Reads a file for its digest. */
  async digest(path: string): Promise<Digested> {
    const leave = await this.#slots.take();
    try {
      const before = await stat(path);
      return { ...(await digestFile(path)), stamp: stampOf(before) };
    } finally {
      leave();
    }
  }

  async #check(digest: string, { path, sizeBytes }: { path: string; sizeBytes: number }): Promise<void> {
    const now = await stat(path);
    if (now.size === sizeBytes && this.#sound.get(digest) === stampOf(now)) return;
    const found = await this.digest(path);
    if (found.digest === digest) {
      this.sound(digest, found.stamp);
      return;
    }
    const damage = `its archive on the center's disk is damaged: it is ${found.digest} instead of ${digest}`;
    this.damaged(digest, damage);
    throw new MusterError('data_loss', `${damage}. Push it again: the same archive takes its place`, {
      reason: 'ARTIFACT_DAMAGED',
    });
  }
}

/** A rename keeps all of these. */
function stampOf({ size, ino, mtimeMs }: { size: number; ino: number; mtimeMs: number }): string {
  return `${size}/${ino}/${mtimeMs}`;
}
