import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmod, chown, lstat, rename, rm, stat } from 'node:fs/promises';
import { connect, type Server } from 'node:net';
import { dirname, join } from 'node:path';
import { MusterError, errnoOf, messageOf } from '../kit/errors.js';

export interface UnixSocketOptions {
  readonly path: string;
  /** Permissions, default 0600: who can open the socket is who may call. */
  readonly mode?: number;
  /** Owner, default this process's; giving it to another user needs root. */
  readonly uid?: number;
  readonly gid?: number;
}

/** sockaddr_un holds 108 bytes, the last of them zero. */
export const SOCKET_PATH_BYTES_MAX = 107;

const DEFAULT_MODE = 0o600;
/** Nobody but the owner, while the socket is being made ready. */
const PRIVATE_UMASK = 0o177;

/**
 * Listens on a socket file that has its final owner and permissions from its first instant under that name: it is bound
 * under another name, closed to everybody else, made ready and then renamed. A file left by a dead process is replaced.
 * Returns how to remove the file again (only while it is still ours).
 * @throws invalid (path too long), precondition (something else is there, or answers there), denied (cannot give it to that owner)
 */
export async function listenOnUnixSocket(server: Server, options: UnixSocketOptions): Promise<() => Promise<void>> {
  const { path } = options;
  const aside = join(dirname(path), `.${randomBytes(3).toString('hex')}`);
  requireShort(path, aside);
  await requireDirectory(dirname(path));
  await requireFree(path);
  try {
    await bindPrivately(server, aside);
    const { uid, gid, mode = DEFAULT_MODE } = options;
    if (uid !== undefined || gid !== undefined) await chown(aside, uid ?? -1, gid ?? -1);
    await chmod(aside, mode);
    const { ino } = await lstat(aside);
    await rename(aside, path);
    return () => removeOwn(path, ino);
  } catch (error) {
    server.close();
    await rm(aside, { force: true });
    throw explain(error, path);
  }
}

function requireShort(path: string, aside: string): void {
  const bytes = Math.max(Buffer.byteLength(path), Buffer.byteLength(aside));
  if (bytes <= SOCKET_PATH_BYTES_MAX) return;
  throw new MusterError(
    'invalid',
    `the socket path ${path} is too long: Linux allows ${SOCKET_PATH_BYTES_MAX} bytes. Choose a shorter data directory`,
    { reason: 'SOCKET_PATH_TOO_LONG' },
  );
}

/** Asked beforehand, since libuv reports a missing directory as a missing permission. */
async function requireDirectory(path: string): Promise<void> {
  try {
    if ((await stat(path)).isDirectory()) return;
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT' && errnoOf(error) !== 'ENOTDIR') throw error;
  }
  throw new MusterError('not_found', `cannot create a socket in ${path}: there is no such directory. Create it first`);
}

async function requireFree(path: string): Promise<void> {
  try {
    if (!(await lstat(path)).isSocket()) {
      throw new MusterError('precondition', `${path} is not a socket: move it away, then start again`);
    }
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return;
    throw error;
  }
  if (await answers(path)) {
    throw new MusterError('precondition', `another process already answers on ${path}: stop it first`, {
      reason: 'ALREADY_RUNNING',
    });
  }
}

/** Whether somebody accepts connections on the socket. Only a refusal says that nobody does. */
async function answers(path: string): Promise<boolean> {
  const socket = connect(path);
  try {
    await once(socket, 'connect');
    return true;
  } catch (error) {
    return errnoOf(error) !== 'ECONNREFUSED' && errnoOf(error) !== 'ENOENT';
  } finally {
    socket.destroy();
  }
}

async function bindPrivately(server: Server, path: string): Promise<void> {
  const listening = once(server, 'listening');
  // listen() binds before it returns, so the mask of the process is changed for no other code.
  const before = process.umask(PRIVATE_UMASK);
  try {
    server.listen(path);
  } finally {
    process.umask(before);
  }
  await listening;
}

async function removeOwn(path: string, ino: number): Promise<void> {
  try {
    if ((await lstat(path)).ino === ino) await rm(path, { force: true });
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
  }
}

function explain(error: unknown, path: string): unknown {
  switch (errnoOf(error) ?? '') {
    case 'EPERM':
      return new MusterError(
        'denied',
        `cannot give the socket ${path} to another user: run as root, or leave its owner out`,
        {
          cause: error,
        },
      );
    case 'EACCES':
      return new MusterError('denied', `cannot create the socket ${path}: no permission to write in ${dirname(path)}`, {
        cause: error,
      });
    default:
      return error instanceof MusterError
        ? error
        : new MusterError('internal', `cannot listen on ${path}: ${messageOf(error)}`, { cause: error });
  }
}
