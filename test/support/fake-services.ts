import { MusterError } from '../../src/kit/errors.js';
import type { Heard, ServiceControl, ServicesChange } from '../../src/agent/ports.js';
import type { InstanceReport, ServiceState } from '../../src/model/instance.js';
import type { Manifest } from '../../src/model/manifest.js';
import { wellInstance } from './instance-report.js';

/** An instance with nothing special about it. */
export function instanceReport(service: string, fields: Partial<InstanceReport> = {}): InstanceReport {
  const times = { sinceMs: 1_700_000_000_000, startedMs: 1_700_000_000_000 };
  return wellInstance({ service, pid: 42, logDirectory: `/logs/${service}`, ...times, ...fields });
}

/** Services in memory: every call succeeds at once and is remembered. */
export class FakeServices implements ServiceControl {
  readonly calls: string[] = [];
  readonly #instances = new Map<string, InstanceReport>();
  readonly #generations = new Map<string, number>();
  readonly #listeners = new Set<(change: ServicesChange) => void>();
  /** Throw here to make start, stop and restart fail. */
  before: (action: string, service: string) => Promise<void> | void = () => undefined;

  constructor(...services: readonly string[]) {
    for (const service of services) this.#instances.set(service, instanceReport(service));
  }

  /** Those who listen to changes now; for tests that nothing is left behind. */
  get listeners(): number {
    return this.#listeners.size;
  }

  set(service: string, fields: Partial<InstanceReport>): InstanceReport {
    const report = { ...(this.#instances.get(service) ?? instanceReport(service)), ...fields };
    this.#instances.set(service, report);
    this.#tell({ service, report });
    return report;
  }

  remove(service: string): void {
    this.#instances.delete(service);
    this.#tell({ service, report: undefined });
  }

  list(): readonly InstanceReport[] {
    return [...this.#instances.values()];
  }

  get(service: string): InstanceReport {
    const report = this.#instances.get(service);
    if (!report) throw new MusterError('not_found', `there is no service "${service}" on this machine`);
    return report;
  }

  lastOutput(service: string): Promise<readonly string[]> {
    return Promise.resolve([`the last line of ${service}`]);
  }

  onChange(listener: (change: ServicesChange) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  start(service: string): Promise<InstanceReport> {
    return this.#act('start', service, 'RUNNING');
  }

  stop(service: string): Promise<InstanceReport> {
    return this.#act('stop', service, 'STOPPED');
  }

  restart(service: string): Promise<InstanceReport> {
    return this.#act('restart', service, 'RUNNING');
  }

  assign(
    { manifest, generation }: { manifest: Manifest; manifestText: string; generation: number },
    heard: Heard,
  ): Promise<void> {
    heard(undefined);
    if (generation <= (this.#generations.get(manifest.name) ?? 0)) return Promise.resolve();
    this.calls.push(`assign ${manifest.name} ${generation}`);
    this.#generations.set(manifest.name, generation);
    this.set(manifest.name, { generation, version: manifest.version });
    return Promise.resolve();
  }

  unassign(service: string, generation: number, heard: Heard): Promise<void> {
    this.calls.push(`unassign ${service} ${generation}`);
    this.#generations.delete(service);
    this.remove(service);
    heard(undefined);
    return Promise.resolve();
  }

  generations(): ReadonlyMap<string, number> {
    return this.#generations;
  }

  reportHealth(service: string, health: 'PASSING' | 'WARNING' | 'CRITICAL', output: string): number {
    this.get(service);
    this.calls.push(`health ${service} ${health} ${output}`);
    return 30_000;
  }

  broken(): readonly { readonly file: string; readonly errors: readonly string[] }[] {
    return [{ file: 'bad.yaml', errors: ['bad.yaml:1:1: it is empty'] }];
  }

  async #act(action: string, service: string, state: ServiceState): Promise<InstanceReport> {
    this.calls.push(`${action} ${service}`);
    this.get(service);
    await this.before(action, service);
    return this.set(service, { state, pid: state === 'RUNNING' ? 42 : 0, wanted: state === 'RUNNING' });
  }

  #tell(change: ServicesChange): void {
    for (const listener of [...this.#listeners]) listener(change);
  }
}
