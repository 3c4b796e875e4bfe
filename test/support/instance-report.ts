import type { InstanceReport } from '../../src/model/instance.js';

/** An instance that is well, but for what is said. */
export function wellInstance(facts: Partial<InstanceReport> = {}): InstanceReport {
  return {
    service: 'orders',
    version: '1.0.0',
    driver: 'process',
    state: 'RUNNING',
    sinceMs: 0,
    health: 'PASSING',
    pid: 1,
    wanted: true,
    reason: '',
    exitCode: undefined,
    exitSignal: '',
    restarts: 0,
    checks: [],
    generation: 0,
    logDirectory: '',
    startedMs: 0,
    ...facts,
  };
}
