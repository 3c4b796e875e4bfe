import type { FileHandle } from 'node:fs/promises';
import { listFiles } from '../../system/directory.js';
import { openIfThere, type LoggedService } from '../files.js';
import { parseRotated, type RotatedName } from '../names.js';
import type { Cut } from '../rotation.js';
import { LiveSnapshot } from '../snapshot.js';
import { FileBytes, readFully, type LogBytes } from './bytes.js';
import { firstTimeOf } from './packed-head.js';

/** How a log of the machine is read while its front may be cut away. */
export interface LogGuard {
  /** Runs work while the front is not being cut. */
  readonly exclusive: <T>(work: () => Promise<T>) => Promise<T>;
  /** Whether others wait for work under exclusive() to end. */
  readonly wanted: () => boolean;
  /** Calls `onCut` at each cut, while nobody reads. Returns how to stop. */
  readonly follow: (onCut: (cut: Cut) => void) => () => void;
  /** The rotated file whose lines are still in the live one, too. */
  readonly copied: () => string | undefined;
}

/** One file of a log, in which a search looks. */
export interface Part {
  readonly name: string;
  readonly modifiedMs: number;
  /** Bytes of log in it; of a compressed one an estimate, which is wrong where it is damaged, of several members or very large. */
  readonly size: number;
  /** A whole file that grep can read by itself; undefined: its bytes have to be handed over. */
  readonly descriptor: number | undefined;
  /**
   * Runs work on the file as grep can read it, nobody else reading or cutting it meanwhile: it must end soon when that is wanted. Undefined
   * where that cannot be. Only for the live one.
   */
  readonly whole?: <T>(work: (descriptor: number, wanted: () => boolean) => Promise<T>) => Promise<T | undefined>;
  /** Undefined: compressed. */
  readonly bytes: LogBytes | undefined;
  /** Of its first line that carries a time; only for a compressed one. */
  readonly firstMs: number | undefined;
  close(): Promise<void>;
}

/** A place in the list of parts; the file is opened when its turn comes, unless it is open already. */
export interface PartSlot {
  readonly name: string;
  /** It is not kept open: open() opens it anew. */
  readonly late: boolean;
  /** Undefined where it is there no more. @throws as openInside */
  open(): Promise<Part | undefined>;
}

/** Length of the uncompressed data, modulo 2^32: the last word of a gzip file (RFC 1952). */
const GZIP_LENGTH_BYTES = 4;

/**
 * The files that hold a log now, the oldest first, each line in exactly one of them; as many of them open as `room` says, the rest to be
 * opened when their turn comes. The live one, where there is one, is last and always open. None is opened once the signal has aborted.
 */
export async function partsOf(
  { root }: Pick<LoggedService, 'root'>,
  name: string,
  guard: LogGuard,
  { room, signal }: { readonly room: number; readonly signal: AbortSignal },
): Promise<PartSlot[]> {
  return guard.exclusive(async () => {
    const slots: PartSlot[] = [];
    for (const rotated of await rotatedFiles(root, name, guard.copied())) {
      const held = slots.length < room && !signal.aborted;
      slots.push(held ? heldSlot(rotated.name, await openPart(root, rotated.name)) : lateSlot(root, rotated.name));
    }
    if (signal.aborted) return slots;
    const live = await openLive(root, name, guard);
    return live.ok && !live.part ? slots : [...slots, heldSlot(name, live)];
  });
}

async function openLive(root: string, name: string, guard: LogGuard): Promise<Opened> {
  try {
    const live = await LiveSnapshot.take({ root, name, exclusive: guard.exclusive });
    return { ok: true, part: live && livePart(name, live, guard) };
  } catch (error) {
    return { ok: false, error };
  }
}

/** By their numbers; of one that is just being compressed, the plain one. */
async function rotatedFiles(root: string, name: string, copied: string | undefined): Promise<RotatedName[]> {
  const byNumber = new Map<number, RotatedName>();
  for (const file of await listFiles(root)) {
    const rotated = parseRotated(file);
    if (rotated?.of !== name || rotated.name === copied) continue;
    if (!rotated.compressed || !byNumber.has(rotated.number)) byNumber.set(rotated.number, rotated);
  }
  return [...byNumber.values()].sort((a, b) => a.number - b.number);
}

type Opened = { readonly ok: true; readonly part: Part | undefined } | { readonly ok: false; readonly error: unknown };

async function openPart(root: string, name: string): Promise<Opened> {
  try {
    return { ok: true, part: await openRotated(root, name) };
  } catch (error) {
    return { ok: false, error };
  }
}

function heldSlot(name: string, opened: Opened): PartSlot {
  return {
    name,
    late: false,
    open: () => (opened.ok ? Promise.resolve(opened.part) : Promise.reject(opened.error)),
  };
}

function lateSlot(root: string, name: string): PartSlot {
  return { name, late: true, open: () => openRotated(root, name) };
}

/** One that was plain when it was listed may be compressed by now. */
async function openRotated(root: string, name: string): Promise<Part | undefined> {
  for (const candidate of name.endsWith('.gz') ? [name] : [name, `${name}.gz`]) {
    const file = await openIfThere(root, candidate);
    if (!file) continue;
    try {
      return await rotatedPart(candidate, file);
    } catch (error) {
      await file.close();
      throw error;
    }
  }
  return undefined;
}

async function rotatedPart(name: string, file: FileHandle): Promise<Part> {
  const { size, mtimeMs: modifiedMs } = await file.stat();
  const close = (): Promise<void> => file.close();
  const common = { name, modifiedMs, descriptor: file.fd, close };
  if (!name.endsWith('.gz')) return { ...common, size, bytes: new FileBytes(file, size), firstMs: undefined };
  const length = await readFully(file, Math.max(size - GZIP_LENGTH_BYTES, 0), GZIP_LENGTH_BYTES);
  return {
    ...common,
    size: length.length === GZIP_LENGTH_BYTES ? length.readUInt32LE() : 0,
    bytes: undefined,
    firstMs: await firstTimeOf(file, modifiedMs),
  };
}

/** What a compressed part holds, as a file without a name. */
export function unpackedPart(packed: Part, file: FileHandle, size: number): Part {
  const bytes = new FileBytes(file, size);
  return { ...packed, size, descriptor: file.fd, bytes, close: () => file.close() };
}

function livePart(name: string, live: LiveSnapshot, guard: LogGuard): Part {
  const stop = guard.follow(live.onCut);
  const { size, begin, modifiedMs } = live;
  return {
    name,
    modifiedMs,
    size: size - begin,
    descriptor: undefined,
    bytes: live,
    whole: (work) => live.whole((descriptor) => work(descriptor, guard.wanted)),
    firstMs: undefined,
    close: async () => {
      stop();
      await live.close();
    },
  };
}
