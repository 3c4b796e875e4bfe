import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { MusterError } from '../kit/errors.js';
import { readFileIfThere } from '../kit/files.js';
import { adminSocket, agentSocket, configHome, defaultDataDirectory } from '../model/places.js';
import type { GlobalOptions, Io } from './io.js';

/** Which center (or agent) a command talks to, and how that was decided. */
export type Target =
  | { readonly kind: 'socket'; readonly path: string }
  | { readonly kind: 'context'; readonly name: string; readonly directory: string };

/** Folder of a named context, made by `muster login`. */
export function contextDirectory(io: Io, name: string): string {
  return join(configHome(io.places), 'contexts', name);
}

/** File naming the context in use. */
export function currentContextFile(io: Io): string {
  return join(configHome(io.places), 'current-context');
}

function namedContext(io: Io, name: string): Target {
  const directory = contextDirectory(io, name);
  if (!existsSync(join(directory, 'context.json'))) {
    throw new MusterError(
      'not_found',
      `there is no context "${name}": make it with "muster login CENTER --token TOKEN --context ${name}"`,
    );
  }
  return { kind: 'context', name, directory };
}

/** A socket as typed: relative to the working directory, or with the `unix:` that other tools want before it. */
function socketPath(typed: string): string {
  return resolve(typed.replace(/^unix:(\/\/)?/, ''));
}

function firstSocket(paths: readonly string[]): Target | undefined {
  const path = paths.find((candidate) => existsSync(candidate));
  return path === undefined ? undefined : { kind: 'socket', path };
}

/** @throws invalid for options that contradict each other */
function assertOneTarget(options: GlobalOptions): void {
  const usage = { reason: 'USAGE' };
  if (isLocal(options)) {
    throw new MusterError(
      'invalid',
      'this command asks the center; with --local or --agent-socket there are services, start, stop, restart, rollback, backup now, backup ls, logs and call',
      usage,
    );
  }
  if (options.socket !== undefined && options.context !== undefined) {
    throw new MusterError('invalid', 'give either --socket or --context, not both', usage);
  }
}

/**
 * The center a command talks to: --socket, --context, MUSTER_SOCKET, MUSTER_CONTEXT, the context of the last login,
 * this machine's own center, this user's `muster dev`; the first that is given or there.
 * @throws not_found with what to do next
 */
export async function centerTarget(io: Io, options: GlobalOptions): Promise<Target> {
  assertOneTarget(options);
  const socket = options.socket ?? (options.context === undefined ? io.env['MUSTER_SOCKET'] : undefined);
  if (socket !== undefined) return { kind: 'socket', path: socketPath(socket) };
  const named = options.context ?? io.env['MUSTER_CONTEXT'] ?? (await readFileIfThere(currentContextFile(io)))?.trim();
  if (named !== undefined && named !== '') return namedContext(io, named);
  const found = firstSocket([
    adminSocket(defaultDataDirectory('center', io.places)),
    adminSocket(join(defaultDataDirectory('dev', io.places), 'center')),
  ]);
  if (found) return found;
  throw new MusterError(
    'not_found',
    'no center found on this machine: start one with "muster dev" or "muster center", or reach one elsewhere with "muster login CENTER --token TOKEN" (a token comes from "muster token create --operator NAME" there)',
  );
}

/**
 * The operator's socket of this machine's agent: --agent-socket, MUSTER_AGENT_SOCKET, the agent's default place, `muster dev`'s.
 * @throws not_found with what to do next
 */
export function agentTarget(io: Io, options: GlobalOptions): Target {
  const given = options.agentSocket ?? io.env['MUSTER_AGENT_SOCKET'];
  if (given !== undefined) return { kind: 'socket', path: socketPath(given) };
  const found = firstSocket([
    agentSocket(defaultDataDirectory('agent', io.places)),
    agentSocket(join(defaultDataDirectory('dev', io.places), 'agent')),
  ]);
  if (found) return found;
  throw new MusterError(
    'not_found',
    'no agent found on this machine: start one with "muster agent", or name its socket with --agent-socket PATH',
  );
}

/** Whether the command is meant for this machine's agent alone. */
export function isLocal(options: GlobalOptions): boolean {
  return options.local === true || options.agentSocket !== undefined;
}
