import { parseDuration, parseSize } from '../kit/durations.js';
import { fillBackup } from './manifest-backup.js';
import type { Manifest, ManifestPort, Ping, PingKind } from './manifest-types.js';
import type { RawManifest } from './manifest-schema.js';

/** From a manifest as written to plain values with defaults. The raw manifest has been checked: nothing here can fail. */

const HOST = '127.0.0.1';

function ms(text: string | undefined, fallback: string): number {
  return parseDuration(text ?? fallback);
}

/** The manifest with every default filled in. */
export function fillIn(raw: RawManifest): Manifest {
  const ports = (raw.ports ?? []).map(({ name, port, host }) => ({ name, port, host: host ?? HOST }));
  return {
    ...identity(raw),
    ...surroundings(raw),
    ...lifecycle(raw),
    ...upkeep(raw),
    ports,
    ping: fillPing(raw.ping, ports),
  };
}

function identity(raw: RawManifest): Pick<Manifest, 'name' | 'version' | 'driver' | 'unit' | 'modules'> {
  return {
    name: raw.name,
    version: raw.version ?? '0.0.0',
    driver: raw.driver ?? 'process',
    unit: raw.unit ?? raw.name,
    modules: raw.modules ?? {},
  };
}

function surroundings(raw: RawManifest): Pick<Manifest, 'command' | 'user' | 'directory' | 'env'> {
  return { command: raw.command ?? [], user: raw.user, directory: raw.directory, env: raw.env ?? {} };
}

function lifecycle({ start, restart, stop }: RawManifest): Pick<Manifest, 'start' | 'restart' | 'stop'> {
  return {
    start: { settleMs: ms(start?.settle, '1s'), retries: start?.retries ?? 5 },
    restart: restart ?? 'always',
    stop: { signal: stop?.signal ?? 'SIGTERM', graceMs: ms(stop?.grace, '10s') },
  };
}

function upkeep(raw: RawManifest): Pick<Manifest, 'logs' | 'verify' | 'backup' | 'hooks' | 'releases' | 'config'> {
  const { verify } = raw;
  return {
    logs: fillLogs(raw.logs),
    verify: verify && { exec: verify.exec, timeoutMs: ms(verify.timeout, '60s') },
    backup: raw.backup && fillBackup(raw.backup),
    hooks: { install: raw.hooks?.install, timeoutMs: ms(raw.hooks?.timeout, '10m') },
    releases: fillReleases(raw.releases),
    config: raw.config && { schema: raw.config.schema, notify: raw.config.notify },
  };
}

function fillPing(raw: RawManifest['ping'], ports: readonly ManifestPort[]): Ping | undefined {
  if (!raw) return undefined;
  return {
    ...pingKind(raw, ports),
    everyMs: ms(raw.every, '10s'),
    timeoutMs: ms(raw.timeout, '2s'),
    failures: raw.failures ?? 3,
    successes: raw.successes ?? 1,
  };
}

function pingKind(raw: NonNullable<RawManifest['ping']>, ports: readonly ManifestPort[]): PingKind {
  if (raw.http !== undefined) return { kind: 'http', path: raw.http, ...address(raw.port, ports) };
  if (raw.grpc !== undefined) return { kind: 'grpc', service: raw.grpc, ...address(raw.port, ports) };
  if (raw.tcp !== undefined) return { kind: 'tcp', ...address(raw.tcp, ports) };
  if (raw.exec !== undefined) return { kind: 'exec', command: raw.exec };
  return { kind: 'ttl', ttlMs: ms(raw.ttl, '30s') };
}

/** The address of a port by name or number; of the first port where none is named. */
function address(wanted: string | number | undefined, ports: readonly ManifestPort[]): { host: string; port: number } {
  if (typeof wanted === 'number') return { host: HOST, port: wanted };
  const found = wanted === undefined ? ports[0] : ports.find((port) => port.name === wanted);
  return { host: found?.host ?? HOST, port: found?.port ?? 0 };
}

function fillReleases(raw: RawManifest['releases']): Manifest['releases'] {
  return { keep: raw?.keep ?? 5, maxSizeBytes: parseSize(raw?.max_size ?? '5GB') };
}

function fillLogs(raw: RawManifest['logs']): Manifest['logs'] {
  return {
    files: raw?.files ?? ['*.log'],
    maxSizeBytes: parseSize(raw?.max_size ?? '50MB'),
    keep: raw?.keep ?? 10,
    maxAgeMs: ms(raw?.max_age, '14d'),
  };
}
