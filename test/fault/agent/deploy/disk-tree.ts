/**
 * What a disk holds after a power loss, at its worst: of a file the bytes of its last sync, of a directory the names of its last sync, and
 * of a link nothing but its name. Nothing else is promised by POSIX; a disk is free to hold more.
 */
import type { Event } from '../../store/disk-trace.js';

interface FileNode {
  readonly kind: 'file';
  content: Buffer;
  syncing: Buffer;
  synced: Buffer;
}

interface DirectoryNode {
  readonly kind: 'directory';
  names: Map<string, Node>;
  syncing: Map<string, Node>;
  synced: Map<string, Node>;
}

interface LinkNode {
  readonly kind: 'link';
  readonly target: string;
}

type Node = FileNode | DirectoryNode | LinkNode;

/** What happens to what is there. */
type Altering = Extract<Event, { at: 'rename' | 'link' | 'write' | 'sync_started' | 'sync_done' }>;

const LINKS_MAX = 8;

function newDirectory(): DirectoryNode {
  return { kind: 'directory', names: new Map(), syncing: new Map(), synced: new Map() };
}

function newNode(event: Extract<Event, { at: 'create' | 'mkdir' | 'symlink' }>): Node {
  if (event.at === 'mkdir') return newDirectory();
  if (event.at === 'symlink') return { kind: 'link', target: event.target };
  const nothing = Buffer.alloc(0);
  return { kind: 'file', content: nothing, syncing: nothing, synced: nothing };
}

export class DiskTree {
  readonly #root: string;
  readonly #top = newDirectory();

  /** `root` is there, and empty. */
  constructor(root: string) {
    this.#root = root;
  }

  apply(event: Event): void {
    if (event.at === 'said' || !event.path.startsWith(`${this.#root}/`)) {
      if (event.at !== 'said' && event.path === this.#root) this.#sync(event, this.#top);
      return;
    }
    const parts = event.path.slice(this.#root.length + 1).split('/');
    const name = parts.pop() ?? '';
    const parent = this.#directory(parts);
    if (parent) this.#change(parent, name, event);
  }

  #change(parent: DirectoryNode, name: string, event: Exclude<Event, { at: 'said' }>): void {
    const node = parent.names.get(name);
    if (event.at === 'unlink' || event.at === 'rmdir') parent.names.delete(name);
    else if (event.at === 'create' || event.at === 'mkdir' || event.at === 'symlink') {
      if (!node) parent.names.set(name, newNode(event));
    } else if (node) this.#alter(parent, name, node, event);
  }

  #alter(parent: DirectoryNode, name: string, node: Node, event: Altering): void {
    if ('to' in event) this.#move(parent, name, node, event);
    else this.#write(node, event);
  }

  #write(node: Node, event: Extract<Event, { at: 'write' | 'sync_started' | 'sync_done' }>): void {
    if (event.at !== 'write') this.#sync(event, node);
    else if (node.kind === 'file') {
      node.content = Buffer.concat([node.content.subarray(0, event.offset), event.bytes]);
    }
  }

  #move(parent: DirectoryNode, name: string, node: Node, { at, to }: Extract<Event, { at: 'rename' | 'link' }>): void {
    const parts = to.slice(this.#root.length + 1).split('/');
    const toName = parts.pop() ?? '';
    this.#directory(parts)?.names.set(toName, node);
    if (at === 'rename') parent.names.delete(name);
  }

  #sync({ at }: Event, node: Node): void {
    if (node.kind === 'file') {
      if (at === 'sync_started') node.syncing = node.content;
      if (at === 'sync_done') node.synced = node.syncing;
    }
    if (node.kind === 'directory') {
      if (at === 'sync_started') node.syncing = new Map(node.names);
      if (at === 'sync_done') node.synced = node.syncing;
    }
  }

  #directory(parts: readonly string[]): DirectoryNode | undefined {
    let at: Node | undefined = this.#top;
    for (const part of parts) {
      if (at?.kind !== 'directory') return undefined;
      at = at.names.get(part);
    }
    return at?.kind === 'directory' ? at : undefined;
  }

  /** The text of a file after a power loss now, through links; undefined: there is none. */
  read(path: string): string | undefined {
    const node = this.#find(path.split('/'), 0);
    return node?.kind === 'file' ? node.synced.toString() : undefined;
  }

  /** The bytes of a file after a power loss now. */
  bytes(path: string): Buffer | undefined {
    const node = this.#find(path.split('/'), 0);
    return node?.kind === 'file' ? node.synced : undefined;
  }

  /** Where a link leads after a power loss now; undefined: there is none. */
  readlink(directory: string, name: string): string | undefined {
    const parent = this.#find(directory.split('/'), 0);
    const node = parent?.kind === 'directory' ? parent.synced.get(name) : undefined;
    return node?.kind === 'link' ? node.target : undefined;
  }

  #find(parts: readonly string[], links: number): Node | undefined {
    let at: Node | undefined = this.#top;
    for (const [index, part] of parts.entries()) {
      if (at?.kind !== 'directory') return undefined;
      at = at.synced.get(part);
      if (at?.kind !== 'link' || links > LINKS_MAX) continue;
      const way = [...parts.slice(0, index), ...at.target.split('/'), ...parts.slice(index + 1)];
      return this.#find(straight(way), links + 1);
    }
    return at;
  }
}

function straight(parts: readonly string[]): readonly string[] {
  const way: string[] = [];
  for (const part of parts) {
    if (part === '..') way.pop();
    else if (part !== '.' && part !== '') way.push(part);
  }
  return way;
}
