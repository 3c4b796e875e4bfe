import assert from 'node:assert/strict';
import type { CommandOrder, CommandReport } from '../../src/center/gateway/parts.js';
import { randomBetween, type Random } from '../../src/kit/random.js';
import { NO_RESULT } from '../../src/model/command-result.js';

/** An agent by its promises: what it has is on its disk before it runs, it starts an id once, it forgets what was acknowledged. */
export class ModelAgent {
  /** What it holds; what only waits to start is lost with its process. */
  readonly journal = new Map<string, CommandReport>();
  readonly starts = new Map<string, number>();
  readonly forgotten = new Map<string, CommandReport['outcome']>();
  /** What the center has not been told of since it changed. */
  readonly untold = new Set<string>();
  readonly #random: Random;
  /** The chance that an order waits before it starts. */
  readonly #waits: number;

  constructor(random: Random, waits = 0) {
    this.#random = random;
    this.#waits = waits;
  }

  take({ command }: CommandOrder): void {
    if (this.journal.has(command)) return;
    const outcome = 'DELIVERED';
    const facts = { startedMs: undefined, endedMs: undefined, result: NO_RESULT };
    this.journal.set(command, { command, outcome, message: '', ...facts });
    if (this.#random.next() >= this.#waits) this.#start(command);
  }

  /** What waits may start, what runs may end. */
  live(): void {
    for (const [id, report] of this.journal) {
      if (this.#random.next() < 0.5) continue;
      if (report.outcome === 'DELIVERED') this.#start(id);
      else if (report.outcome === 'STARTED') {
        const outcome = (['SUCCEEDED', 'FAILED', 'UNKNOWN'] as const)[randomBetween(this.#random, 0, 3)] ?? 'FAILED';
        this.#set({ ...report, outcome, endedMs: 2 });
      }
    }
  }

  /** Its process is killed and started again: what waited is gone, how ended what ran nobody knows. */
  restart(): void {
    for (const [id, report] of this.journal) {
      if (report.outcome === 'DELIVERED') this.journal.delete(id);
      else if (report.outcome === 'STARTED') this.journal.set(id, { ...report, outcome: 'UNKNOWN', endedMs: 2 });
    }
  }

  cancel(id: string): void {
    const report = this.journal.get(id);
    if (report?.outcome === 'DELIVERED') this.#set({ ...report, outcome: 'CANCELLED', endedMs: 2 });
  }

  acknowledge(id: string): void {
    const report = this.journal.get(id);
    assert.ok(
      !report || (report.outcome !== 'STARTED' && report.outcome !== 'DELIVERED'),
      'a command was acknowledged that had not ended',
    );
    if (report) this.forgotten.set(id, report.outcome);
    this.journal.delete(id);
  }

  /** It loses part of its disk. */
  lose(id: string): void {
    this.journal.delete(id);
  }

  #set(report: CommandReport): void {
    this.journal.set(report.command, report);
    this.untold.add(report.command);
  }

  #start(id: string): void {
    const report = this.journal.get(id);
    if (!report) return;
    this.#set({ ...report, outcome: 'STARTED', startedMs: 1 });
    this.starts.set(id, (this.starts.get(id) ?? 0) + 1);
  }
}
