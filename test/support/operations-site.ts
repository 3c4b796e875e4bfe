import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Site, TestAgent } from './site.js';
import { waitFor } from './waiting.js';

/** An operation and its targets as `muster ops ID --json` shows them. */
export interface OperationJson {
  readonly operation: { readonly id: string; readonly state: string; readonly message?: string };
  readonly targets: readonly TargetJson[];
}

export interface TargetJson {
  readonly id: string;
  readonly machineName: string;
  readonly outcome: string;
  readonly message?: string;
}

/** A service that writes a line into a file at each start, and takes its time to stop. */
export class CountedService {
  readonly name: string;
  readonly agent: TestAgent;
  readonly #starts: string;
  readonly #broken: string;

  constructor(agent: TestAgent, name: string) {
    this.name = name;
    this.agent = agent;
    this.#starts = join(agent.data, `${name}.starts`);
    this.#broken = join(agent.data, `${name}.broken`);
  }

  async declare(stopsInSeconds = 0.3): Promise<void> {
    const script = [
      `if [ -e ${this.#broken} ]; then exit 1; fi`,
      `echo started >> ${this.#starts}`,
      `trap "sleep ${stopsInSeconds}; exit 0" TERM`,
      'while :; do sleep 0.1; done',
    ];
    await this.agent.declare(
      this.name,
      [
        `name: ${this.name}`,
        `command: [/bin/sh, -c, '${script.join('; ')}']`,
        'start: { settle: 200ms, retries: 0 }',
        'stop: { grace: 30s }',
      ].join('\n'),
    );
  }

  /** How often it was started. */
  async starts(): Promise<number> {
    if (!existsSync(this.#starts)) return 0;
    return (await readFile(this.#starts, 'utf8')).split('\n').length - 1;
  }

  /** From now on it cannot start. */
  async spoil(): Promise<void> {
    await writeFile(this.#broken, '');
  }
}

/** Starts an operation and does not wait for its end. @returns its id */
export async function begin(site: Site, ...args: string[]): Promise<string> {
  const answer = (await site.json(...args, '--detach')) as { id?: string; operation?: { id: string } };
  const id = answer.id ?? answer.operation?.id;
  if (id === undefined) throw new Error(`no id in ${JSON.stringify(answer)}`);
  return id;
}

export async function shown(site: Site, id: string): Promise<OperationJson> {
  return (await site.json('ops', id)) as OperationJson;
}

/** `NAME OUTCOME` of each target, in the order of their turns. */
export function outcomesOf({ targets }: OperationJson): string[] {
  return targets.map(({ machineName, outcome }) => `${machineName} ${outcome.replace('OUTCOME_', '')}`);
}

export function until(
  site: Site,
  id: string,
  what: string,
  test: (operation: OperationJson) => boolean,
): Promise<OperationJson> {
  return waitFor(
    `operation ${id} to be ${what}`,
    async () => {
      const found = await shown(site, id);
      return test(found) && found;
    },
    120_000,
  );
}

const OPEN = ['WAITING', 'RUNNING', 'PAUSED', 'STOPPING'].map((state) => `OPERATION_STATE_${state}`);

export function isOpen({ operation }: OperationJson): boolean {
  return OPEN.includes(operation.state);
}

export function ended(site: Site, id: string): Promise<OperationJson> {
  return until(site, id, 'over', (found) => !isOpen(found));
}

/** Whether the target of that machine is so far. */
export function at(name: string, outcome: string): (operation: OperationJson) => boolean {
  return (found) => outcomesOf(found).includes(`${name} ${outcome}`);
}
