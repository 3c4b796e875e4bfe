import assert from 'node:assert/strict';
import type { CommandOrder, CommandReport } from '../../src/center/gateway/parts.js';
import { randomBetween, type Random } from '../../src/kit/random.js';
import { NO_RESULT, type CommandResult } from '../../src/model/command-result.js';
import type { ReleaseRef } from '../../src/model/release.js';
import { deployReport } from './deploys.js';

const ENDS = ['SUCCEEDED', 'FAILED', 'UNKNOWN'] as const;

const STEPS = ['FETCH', 'UNPACK', 'STOP', 'SWITCH', 'START', 'VERIFY'] as const;

/**
 * An agent by its promises: what it has is on its disk before it runs, it starts an id once, it forgets what was acknowledged, and goes on
 * with a deploy or a rollback that it had begun.
 */
export class ModelAgent {
  /** What it holds; what only waits to start is lost with its process. */
  readonly journal = new Map<string, CommandReport>();
  readonly starts = new Map<string, number>();
  readonly forgotten = new Map<string, CommandReport['outcome']>();
  /** What the center has not been told of since it changed. */
  readonly untold = new Set<string>();
  /** Which release each service runs from. */
  readonly current = new Map<string, ReleaseRef>();
  readonly #orders = new Map<string, CommandOrder>();
  readonly #random: Random;
  /** The chance that an order waits before it starts. */
  readonly #waits: number;

  constructor(random: Random, waits = 0) {
    this.#random = random;
    this.#waits = waits;
  }

  take(order: CommandOrder): void {
    const { command } = order;
    if (this.journal.has(command)) return;
    this.#orders.set(command, order);
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
        const ends = this.#resumes(id) ? (['SUCCEEDED', 'FAILED', 'STARTED'] as const) : ENDS;
        const outcome = ends[randomBetween(this.#random, 0, ends.length)] ?? 'FAILED';
        this.#set({ ...report, outcome, endedMs: outcome === 'STARTED' ? undefined : 2, ...this.#work(id, outcome) });
      }
    }
  }

  #resumes(id: string): boolean {
    const action = this.#orders.get(id)?.action;
    return action === 'DEPLOY' || action === 'ROLLBACK';
  }

  /** What the command does beside its outcome, and what is told of that. */
  #work(id: string, outcome: CommandReport['outcome']): { readonly result?: CommandResult } {
    const order = this.#orders.get(id);
    if (!order || !this.#resumes(id)) return {};
    const from = this.current.get(order.service);
    const to = order.deploy?.release ?? order.rollback?.release?.release;
    if (outcome === 'SUCCEEDED' && to) this.current.set(order.service, to);
    const steps = STEPS.slice(0, randomBetween(this.#random, 1, STEPS.length + 1));
    return { result: { deploy: deployReport(steps, { from, to, current: this.current.get(order.service) }) } };
  }

  /** Its process is killed and started again: what waited is gone, how ended what ran nobody knows. */
  restart(): void {
    for (const [id, report] of this.journal) {
      if (report.outcome === 'DELIVERED') this.journal.delete(id);
      else if (report.outcome === 'STARTED' && !this.#resumes(id))
        this.journal.set(id, { ...report, outcome: 'UNKNOWN', endedMs: 2 });
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
