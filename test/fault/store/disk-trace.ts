/**
 * Rebuilds, from an strace of the writer, what a disk may hold after power is lost at any instant: only what was synced is sure.
 * Model: creating, renaming and removing names is journaled in order; the bytes of a file are sure up to its last completed sync.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { randomBetween, type Random } from '../../../src/kit/random.js';

const SECTOR_BYTES = 512;

export const STRACE = [
  'strace', '-f', '-qq', '-y', '-xx', '-s', '100000000', '--seccomp-bpf',
  '-e', 'trace=openat,write,pwrite64,fdatasync,fsync,rename,link,unlink',
] as const; // prettier-ignore

/** With directories and symbolic links. */
export const STRACE_TREES = STRACE.map((one) => (one.startsWith('trace=') ? `${one},mkdir,rmdir,symlink` : one));

export type Event =
  | { readonly at: 'create'; readonly path: string }
  | { readonly at: 'write'; readonly path: string; readonly offset: number | undefined; readonly bytes: Buffer }
  | { readonly at: 'sync_started' | 'sync_done'; readonly path: string }
  | { readonly at: 'rename' | 'link'; readonly path: string; readonly to: string }
  | { readonly at: 'unlink'; readonly path: string }
  | { readonly at: 'said'; readonly text: string }
  | TreeEvent;

/** Only in a trace made with STRACE_TREES. */
export type TreeEvent =
  | { readonly at: 'mkdir'; readonly path: string }
  | { readonly at: 'rmdir'; readonly path: string }
  | { readonly at: 'symlink'; readonly path: string; readonly target: string };

function isOfTrees(event: Event): event is TreeEvent {
  return event.at === 'mkdir' || event.at === 'rmdir' || event.at === 'symlink';
}

function unhex(text: string | undefined): Buffer {
  return Buffer.from((text ?? '').replaceAll('\\x', ''), 'hex');
}

/** What one call says: the path of its descriptor, its quoted strings, and the text of its arguments. */
interface Call {
  readonly path: string;
  readonly strings: readonly [Buffer, Buffer];
  readonly rest: string;
}

const CALLS: Record<string, (call: Call) => Event | undefined> = {
  openat: ({ strings, rest }) =>
    rest.includes('O_CREAT') && !rest.includes('O_DIRECTORY')
      ? { at: 'create', path: strings[0].toString() }
      : undefined,
  write: ({ path, strings, rest }) =>
    rest.startsWith('1<')
      ? { at: 'said', text: strings[0].toString() }
      : { at: 'write', path, offset: undefined, bytes: strings[0] },
  pwrite64: ({ path, strings, rest }) => ({
    at: 'write',
    path,
    offset: Number(/, (\d+)(?:\)| <)[^"]*$/.exec(rest)?.[1]),
    bytes: strings[0],
  }),
  rename: ({ strings }) => ({ at: 'rename', path: strings[0].toString(), to: strings[1].toString() }),
  link: ({ strings }) => ({ at: 'link', path: strings[0].toString(), to: strings[1].toString() }),
  unlink: ({ strings }) => ({ at: 'unlink', path: strings[0].toString() }),
  rmdir: ({ strings }) => ({ at: 'rmdir', path: strings[0].toString() }),
  mkdir: ({ strings }) => ({ at: 'mkdir', path: strings[0].toString() }),
  symlink: ({ strings }) => ({ at: 'symlink', path: strings[1].toString(), target: strings[0].toString() }),
  fsync: ({ path }) => ({ at: 'sync_started', path }),
  fdatasync: ({ path }) => ({ at: 'sync_started', path }),
};

function eventOf(name: string, rest: string): Event | undefined {
  if (/ = -1 E/.test(rest)) return undefined;
  const strings = [...rest.matchAll(/"((?:\\x..)*)"/g)].map((match) => unhex(match[1]));
  const path = unhex(/^\d+<((?:\\x..)*)>/.exec(rest)?.[1]).toString();
  return CALLS[name]?.({ path, strings: [strings[0] ?? Buffer.alloc(0), strings[1] ?? Buffer.alloc(0)], rest });
}

/** The groups of a match, empty where there is none. */
function parts(pattern: RegExp, line: string): [string, string, string] {
  const found = pattern.exec(line);
  return [found?.[1] ?? '', found?.[2] ?? '', found?.[3] ?? ''];
}

/** The events of a trace made with STRACE, in order; calls that failed are left out. */
export function parseTrace(trace: string): Event[] {
  const events: Event[] = [];
  /** The file each thread is syncing. */
  const syncing = new Map<string, string>();
  const finishSync = (pid: string, result: string): void => {
    const path = syncing.get(pid);
    if (path !== undefined && result === '0') events.push({ at: 'sync_done', path });
    syncing.delete(pid);
  };
  for (const line of trace.split('\n')) {
    const [startedPid, name, rest] = parts(/^(\d+) +(\w+)\((.*)$/, line);
    const [resumedPid, result] = parts(/^(\d+) +<\.\.\. f\w*sync resumed>.*= (-?\d+)/, line);
    finishSync(resumedPid, result);
    const event = eventOf(name, rest);
    if (!event) continue;
    events.push(event);
    if (event.at === 'sync_started') syncing.set(startedPid, event.path);
    if (!rest.includes('<unfinished ...>')) finishSync(startedPid, '0');
  }
  return events;
}

interface TracedFile {
  content: Buffer;
  /** As it was when the sync under way began. */
  syncing: Buffer;
  synced: Buffer;
}

/** How the unsynced bytes of all files come out of a power loss. */
export const LOSSES = ['cut', 'zeroed', 'garbled'] as const;
export type Loss = (typeof LOSSES)[number];

export class TracedDisk {
  readonly #root: string;
  readonly #files = new Map<string, TracedFile>();

  constructor(root: string) {
    this.#root = root;
  }

  apply(event: Event): void {
    if (event.at === 'said' || isOfTrees(event) || !event.path.startsWith(`${this.#root}/`)) return;
    const file = this.#files.get(event.path);
    if (file) this.#change(file, event);
    else if (event.at === 'create') {
      this.#files.set(event.path, { content: Buffer.alloc(0), syncing: Buffer.alloc(0), synced: Buffer.alloc(0) });
    }
  }

  #change(file: TracedFile, event: Exclude<Event, TreeEvent | { at: 'said' }>): void {
    switch (event.at) {
      case 'create':
        return;
      case 'write':
        file.content = written(file.content, event.bytes, event.offset ?? file.content.length);
        return;
      case 'sync_started':
        file.syncing = file.content;
        return;
      case 'sync_done':
        file.synced = file.syncing;
        return;
      case 'link':
        this.#files.set(event.to, file);
        return;
      case 'rename':
        this.#files.set(event.to, file);
        this.#files.delete(event.path);
        return;
      case 'unlink':
        this.#files.delete(event.path);
    }
  }

  /** Writes what the disk may hold now to `directory`. */
  async image(directory: string, loss: Loss, random: Random): Promise<void> {
    for (const [path, file] of this.#files) {
      const to = join(directory, relative(this.#root, path));
      await mkdir(dirname(to), { recursive: true });
      await writeFile(to, afterLoss(file, loss, random));
    }
  }
}

function written(content: Buffer, bytes: Buffer, offset: number): Buffer {
  const next = Buffer.alloc(Math.max(content.length, offset + bytes.length));
  content.copy(next);
  bytes.copy(next, offset);
  return next;
}

function afterLoss({ content, synced }: TracedFile, loss: Loss, random: Random): Buffer {
  if (loss === 'cut' || content.equals(synced)) return synced;
  const result = Buffer.from(content);
  synced.copy(result);
  // Each sector that was not synced arrived, stayed as it was, or is rubbish; rewritten ones in place, too.
  for (let start = 0; start < result.length; start += SECTOR_BYTES) {
    const end = Math.min(start + SECTOR_BYTES, result.length);
    const from = end <= synced.length ? start : Math.max(start, synced.length);
    if (content.subarray(start, end).equals(synced.subarray(start, end)) || random.next() < 0.3) continue;
    if (random.next() < 0.3) content.copy(result, start, start, end);
    else if (loss === 'zeroed') result.fill(0, from, end);
    else for (let index = from; index < end; index += 1) result[index] = randomBetween(random, 0, 256);
  }
  return result;
}
