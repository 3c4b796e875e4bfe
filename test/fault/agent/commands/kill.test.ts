import assert from 'node:assert/strict';
import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import type { CommandStatus } from '../../../../src/agent/commands/journal.js';
import { sleep, systemClock } from '../../../../src/kit/clock.js';
import { freshSeed, randomBetween, seededRandom } from '../../../../src/kit/random.js';
import { isFinal } from '../../../../src/model/instance.js';
import type { HostInput } from '../../../support/command-host.js';
import { programArgs } from '../../../support/program.js';

const KILLS = Number(process.env['MUSTER_COMMAND_KILLS'] ?? 16);
const ORDERS_PER_LIFE = 6;
const HOST = join(import.meta.dirname, '../../../support/command-host');
const seed = Number(process.env['SEED'] ?? freshSeed());

type Line = CommandStatus | { readonly ready: true };

/** The center's side: what it ordered, what it heard, and what it has not heard the end of. */
class Orders {
  readonly heard = new Map<string, string[]>();
  readonly open = new Set<string>();
  #next = 0;

  create(): string {
    const command = `c-${this.#next}`;
    this.#next += 1;
    this.open.add(command);
    return command;
  }

  /** Returns whether the agent may forget it. */
  hear({ command, outcome }: CommandStatus): boolean {
    this.heard.set(command, [...(this.heard.get(command) ?? []), outcome]);
    const ended = isFinal(outcome) || outcome === 'UNKNOWN';
    if (ended) this.open.delete(command);
    return ended;
  }
}

class Host {
  readonly child: ChildProcessWithoutNullStreams;
  readonly ready: Promise<void>;
  #errors = '';

  constructor(directory: string, hear: (status: CommandStatus) => void) {
    this.child = spawn(process.execPath, programArgs(HOST, join(directory, 'state'), join(directory, 'trace')));
    this.child.stdin.on('error', () => undefined);
    this.child.stderr.on('data', (chunk: Buffer) => (this.#errors += chunk.toString()));
    this.ready = new Promise((resolve, reject) => {
      this.child.on('exit', (code) => {
        if (code) reject(new Error(`the host ended with ${code}: ${this.#errors}`));
      });
      createInterface({ input: this.child.stdout }).on('line', (line) => {
        const parsed = JSON.parse(line) as Line;
        if ('ready' in parsed) resolve();
        else hear(parsed);
      });
    });
  }

  write(input: HostInput): void {
    if (this.child.stdin.writable) this.child.stdin.write(`${JSON.stringify(input)}\n`);
  }

  async kill(): Promise<void> {
    const ended = once(this.child, 'close');
    this.child.kill('SIGKILL');
    await ended;
  }
}

test(`a command starts at most once through ${KILLS} kills (SEED=${seed})`, { timeout: 600_000 }, async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'muster-commands-'));
  t.after(() => rm(directory, { recursive: true, force: true }));
  const random = seededRandom(seed);
  const orders = new Orders();
  const send = (host: Host, command: string): void => {
    const order = { command, action: 'RESTART', service: `service-${command}`, expiresInMs: 60_000 } as const;
    host.write({ order });
  };
  const live = async (killAfterMs: number | undefined): Promise<void> => {
    const host = new Host(directory, (status) => {
      if (orders.hear(status)) host.write({ acknowledge: status.command });
    });
    await host.ready;
    for (const command of orders.open) send(host, command);
    for (let n = 0; n < ORDERS_PER_LIFE; n += 1) {
      const command = orders.create();
      send(host, command);
      if (random.next() < 0.3) send(host, command);
      await sleep(systemClock, random.next() * 5);
    }
    if (killAfterMs !== undefined) {
      await sleep(systemClock, killAfterMs);
      await host.kill();
      return;
    }
    while (orders.open.size > 0) await sleep(systemClock, 10);
    const ended = once(host.child, 'close');
    host.child.stdin.end();
    await ended;
  };
  for (let kill = 0; kill < KILLS; kill += 1) await live(randomBetween(random, 0, 30));
  await live(undefined);

  const runs = new Map<string, number>();
  for (const service of (await readFile(join(directory, 'trace'), 'utf8')).split('\n')) {
    runs.set(service, (runs.get(service) ?? 0) + 1);
  }
  const last = new Map([...orders.heard].map(([command, outcomes]) => [command, outcomes.at(-1)]));
  const counted: Record<string, number> = {};
  for (const [command, outcome = 'none'] of last) {
    const ran = runs.get(`service-${command}`) ?? 0;
    counted[outcome] = (counted[outcome] ?? 0) + 1;
    assert.ok(ran <= 1, `${command} ran ${ran} times (SEED=${seed})`);
    const expected = { SUCCEEDED: [1], FAILED: [1], UNKNOWN: [0, 1] }[outcome];
    assert.ok(expected?.includes(ran), `${command} is ${outcome} and ran ${ran} times (SEED=${seed})`);
  }
  assert.equal(last.size, (KILLS + 1) * ORDERS_PER_LIFE);
  assert.ok((counted['UNKNOWN'] ?? 0) > 0, `no kill hit a running command: ${JSON.stringify(counted)}`);
  t.diagnostic(JSON.stringify(counted));
});
