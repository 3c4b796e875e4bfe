import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { sleep, systemClock } from '../../src/kit/clock.js';
import { ClientHandle } from './client-handle.js';
import { connectClient } from './clients.js';
import type { Job } from './job.js';
import { nowMs, type Endpoint } from './port.js';
import type { Column, Result, Table } from './results.js';
import type { ScenarioName, Subject } from './subjects.js';
import type { System } from './system.js';

export interface Settings {
  readonly subjects: readonly Subject[];
  /** Length of one window of measuring. */
  readonly seconds: number;
  /** Windows, or rounds, of which the median counts. */
  readonly rounds: number;
  /** Messages of the backlog. */
  readonly backlog: number;
  /** Where everything is, to be removed in the end. */
  readonly directory: string;
  /** When everything has to be over; nothing new is begun after it. */
  readonly untilMs: number;
}

/** One subject at work in one scenario. */
export interface Bench {
  readonly settings: Settings;
  readonly subject: Subject;
  readonly system: System;
  readonly endpoint: Endpoint;
  /** A client process; it ends with the scenario. */
  client(job: Job): Promise<ClientHandle>;
  prepare(topic: string, subscriptions: readonly string[]): Promise<void>;
}

export interface Scenario {
  readonly name: ScenarioName;
  readonly tables: readonly { readonly title: string; readonly columns: readonly Column[] }[];
  /** The figures, one record a table. */
  measure(bench: Bench): Promise<readonly Readonly<Record<string, number>>[]>;
}

export function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

export function pause(seconds: number): Promise<void> {
  return sleep(systemClock, seconds * 1000);
}

/** Measures every subject that takes part, on a fresh server each; what fails is told in its place and the others go on. */
export async function runScenario(scenario: Scenario, settings: Settings): Promise<Table[]> {
  const tables = scenario.tables.map(({ title, columns }) => ({
    scenario: scenario.name,
    title,
    columns,
    results: [] as Result[],
  }));
  for (const subject of settings.subjects.filter(({ scenarios }) => scenarios.includes(scenario.name))) {
    const beganMs = nowMs();
    const figures = await attempt(scenario, subject, settings);
    tables.forEach(({ results }, index) => {
      const { name, role } = subject;
      if (typeof figures === 'string') results.push({ subject: name, role, figures: {}, failure: figures });
      else results.push({ subject: name, role, figures: figures[index] ?? {} });
    });
    say(`${scenario.name}: ${subject.name}: ${((nowMs() - beganMs) / 1000).toFixed(0)} s`);
  }
  return tables;
}

async function attempt(
  scenario: Scenario,
  subject: Subject,
  settings: Settings,
): Promise<readonly Readonly<Record<string, number>>[] | string> {
  if (nowMs() > settings.untilMs) return 'the time was over';
  const directory = await mkdtemp(join(settings.directory, `${subject.client}-`));
  const clients: ClientHandle[] = [];
  let system: System | undefined;
  try {
    system = await subject.system.make(directory);
    await system.start();
    const endpoint = system.endpoint(subject.client, subject.variant);
    return await scenario.measure({
      settings,
      subject,
      system,
      endpoint,
      client: async (job) => {
        const client = await ClientHandle.start(job);
        clients.push(client);
        return client;
      },
      prepare: async (topic, subscriptions) => {
        const client = await connectClient(endpoint);
        await client.prepare(topic, subscriptions);
        await client.close();
      },
    });
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  } finally {
    for (const client of clients) await client.end();
    // A profile is written by a process that ends in good order.
    if (process.env['MUSTER_BENCH_NODE'] !== undefined) await system?.stop();
    await system?.kill();
    await rm(directory, { recursive: true, force: true });
  }
}

/** Waits for a condition that is asked for again and again. @throws when it takes longer than `seconds` */
export async function until(what: string, seconds: number, probe: () => Promise<boolean>): Promise<void> {
  const lateMs = nowMs() + seconds * 1000;
  while (!(await probe())) {
    if (nowMs() > lateMs) throw new Error(`waited ${seconds} s in vain for ${what}`);
    await pause(0.05);
  }
}

export function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}
