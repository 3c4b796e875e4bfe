import type { Observation, Running, ServiceDriver, Subject, Unit } from '../../src/agent/services/driver.js';

/** What one service of a fake driver does; all of it may be changed at any time. */
export class FakeUnit {
  readonly calls: string[] = [];
  running: Running | undefined;
  /** Resolves when a start is over. */
  launch: () => Promise<void> = () => Promise.resolve();
  /** Whether it ends when it is asked to, and when it is killed. */
  endsOnTerminate = true;
  endsOnKill = true;
  /** Whether an end of it is one on purpose. */
  stoppedByOthers = false;
  onEnd: () => void = () => undefined;

  end(): void {
    this.running = undefined;
    this.onEnd();
  }
}

/** A driver without processes: one FakeUnit per service, for as long as the test lasts. */
export class FakeDriver implements ServiceDriver {
  /** With `idleMs`, others may start its services too. */
  readonly pace: ServiceDriver['pace'];
  readonly #units = new Map<string, FakeUnit>();
  #pid = 1000;

  constructor({ idleMs }: { readonly idleMs?: number } = {}) {
    this.pace = { runningMs: 1000, idleMs };
  }

  of(service: string): FakeUnit {
    const known = this.#units.get(service) ?? new FakeUnit();
    this.#units.set(service, known);
    return known;
  }

  unit({ manifest }: Subject, onEnd: () => void): Unit {
    const fake = this.of(manifest.name);
    fake.onEnd = onEnd;
    return {
      find: () => Promise.resolve(fake.running),
      start: async () => {
        fake.calls.push('start');
        await fake.launch();
        if (!fake.running) {
          this.#pid += 1;
          fake.running = { pid: this.#pid, startedMs: 0 };
        }
        return fake.running;
      },
      terminate: () => {
        fake.calls.push('terminate');
        if (fake.endsOnTerminate) fake.end();
        return Promise.resolve();
      },
      kill: () => {
        fake.calls.push('kill');
        if (fake.endsOnKill) fake.end();
        return Promise.resolve();
      },
      observe: () => Promise.resolve(observed(fake)),
      surroundings: { environment: {} },
      lastLines: () => Promise.resolve([]),
    };
  }
}

function observed({ running, stoppedByOthers }: FakeUnit): Observation {
  if (running) return { kind: 'running', running };
  return { kind: 'ended', exit: { code: 0, signal: '' }, reason: 'it ended', rest: stoppedByOthers };
}
