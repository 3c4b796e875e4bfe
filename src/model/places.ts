import { homedir } from 'node:os';
import { join } from 'node:path';

/** Where things are on disk by default. Pure functions of the environment, so that tests can ask for any machine. */
export interface PlacesEnvironment {
  readonly uid: number;
  readonly home: string;
  readonly xdgDataHome: string | undefined;
  readonly xdgConfigHome: string | undefined;
}

/** This process's own environment. */
export function currentEnvironment(): PlacesEnvironment {
  return {
    uid: process.getuid?.() ?? 0,
    home: homedir(),
    xdgDataHome: process.env['XDG_DATA_HOME'],
    xdgConfigHome: process.env['XDG_CONFIG_HOME'],
  };
}

/** `/var/lib/muster` for root, `~/.local/share/muster` for anyone else. */
export function dataHome(environment: PlacesEnvironment): string {
  if (environment.uid === 0) return '/var/lib/muster';
  return join(environment.xdgDataHome ?? join(environment.home, '.local', 'share'), 'muster');
}

/** Contexts of `muster login`: `~/.config/muster`. */
export function configHome(environment: PlacesEnvironment): string {
  return join(environment.xdgConfigHome ?? join(environment.home, '.config'), 'muster');
}

export type Part = 'center' | 'agent' | 'queue' | 'dev';

/** Default data directory of a part. `dev` holds a center, a queue and an agent of its own. */
export function defaultDataDirectory(part: Part, environment: PlacesEnvironment): string {
  return join(dataHome(environment), part);
}

/** The operators' socket of a center. */
export function adminSocket(centerData: string): string {
  return join(centerData, 'admin.sock');
}

/** The operators' socket of an agent. */
export function agentSocket(agentData: string): string {
  return join(agentData, 'run', 'agent.sock');
}

/** The operators' socket of a queue. */
export function queueSocket(queueData: string): string {
  return join(queueData, 'queue.sock');
}

/** The socket of one service: who can open it is that service. */
export function serviceSocket(agentData: string, service: string): string {
  return join(agentData, 'run', 'services', `${service}.sock`);
}

/** Bearer token of the agent's loopback listeners. */
export function agentTokenFile(agentData: string): string {
  return join(agentData, 'run', 'token');
}

/** Default ports. */
export const PORTS = { centerGrpc: 7400, centerHttp: 7480, agentGrpc: 7500, agentHttp: 7580, queueGrpc: 7600 } as const;
