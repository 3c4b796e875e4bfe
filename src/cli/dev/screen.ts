import type { CenterService } from '../../../generated/muster/v1/center.js';
import { Instance, type Alert } from '../../../generated/muster/v1/types.js';
import { join, resolve } from 'node:path';
import { sleep } from '../../kit/clock.js';
import { isCode } from '../../kit/errors.js';
import { runTasks } from '../../kit/tasks.js';
import { adminSocket, defaultDataDirectory, queueSocket } from '../../model/places.js';
import type { Client } from '../../rpc/types.js';
import { healthText, instanceColumns, stateText } from '../instances.js';
import { inertLine } from '../inert.js';
import type { Io } from '../io.js';
import { clockTime, renderTable, write, type Output } from '../output.js';

export interface ScreenOptions {
  readonly io: Io;
  readonly output: Output;
  readonly center: Client<typeof CenterService>;
  readonly data: string;
  /** HOST:PORT of the queue. */
  readonly queue: string;
  readonly signal: AbortSignal;
}

const REFRESH_MS = 1000;
const AGAIN_MS = 300;
const CLEAR = '\x1b[H\x1b[2J';

/** What `muster dev` shows: on a terminal a screen that is drawn anew, elsewhere one line for each change. */
export async function watchScreen(options: ScreenOptions): Promise<void> {
  const screen = options.io.terminal && !options.output.json ? new LiveScreen(options) : new Lines(options);
  await screen.begin();
  await runTasks(options.signal, [
    (signal) =>
      again(options, signal, async () => {
        for await (const change of options.center.watchInstances({ service: '' }, { signal })) {
          const removed = change.removed.map((key) => key.service);
          await screen.instances(change.instances, removed);
        }
      }),
    (signal) =>
      again(options, signal, async () => {
        for await (const change of options.center.watchAlerts({}, { signal })) await screen.alerts(change.alerts);
      }),
    (signal) => screen.run(signal),
  ]);
}

/** A watch that lost its center begins again: the center is being started once more. */
async function again({ io }: ScreenOptions, signal: AbortSignal, watch: () => Promise<void>): Promise<void> {
  while (!signal.aborted) {
    try {
      await watch();
    } catch (error) {
      if (!isCode(error, 'unavailable', 'cancelled')) throw error;
    }
    await sleep(io.clock, AGAIN_MS, signal);
  }
}

function hints({ io, data, queue }: ScreenOptions): string[] {
  const socket = adminSocket(join(data, 'center'));
  const elsewhere = data !== resolve(defaultDataDirectory('dev', io.places));
  return [
    'try in another terminal (prefix with "npx" in a checkout):',
    // Commands look for a session in its usual place alone.
    ...(elsewhere ? [`  export MUSTER_SOCKET=${socket} MUSTER_QUEUE=unix:${queueSocket(join(data, 'queue'))}`] : []),
    '  muster services          muster restart greeter       muster logs tail greeter -f',
    '  muster status            muster counters show greetings',
    '  curl "http://127.0.0.1:8090/?name=you"               muster config set greeter greeting=Hi',
    '  muster subscribe news mine --create                  muster publish news hello',
    `  (this center's socket: ${socket}; the queue listens on ${queue})`,
  ];
}

interface View {
  begin(): Promise<void>;
  instances(changed: readonly Instance[], removed: readonly string[]): Promise<void>;
  alerts(changed: readonly Alert[]): Promise<void>;
  run(signal: AbortSignal): Promise<void>;
}

class Lines implements View {
  readonly #options: ScreenOptions;
  readonly #shown = new Map<string, string>();
  #well = false;

  constructor(options: ScreenOptions) {
    this.#options = options;
  }

  async begin(): Promise<void> {
    await this.#options.output.line(
      `center, queue, agent and sample service are starting; everything is kept in ${this.#options.data}`,
    );
  }

  async instances(changed: readonly Instance[], removed: readonly string[]): Promise<void> {
    const { io, output } = this.#options;
    const now = io.clock.now();
    for (const instance of changed) {
      const text = `${instance.service} on ${instance.machineName}: ${stateText(instance, now)}, ${healthText(instance)}${instance.pid > 0 ? `, pid ${instance.pid}` : ''}${instance.reason === '' ? '' : `: ${inertLine(instance.reason)}`}`;
      if (this.#shown.get(instance.service) === text) continue;
      this.#shown.set(instance.service, text);
      await output.line(`${clockTime(new Date(now), now)}  ${text}`);
      await output.document(Instance.toJSON(instance));
      if (!this.#well && instance.state === 'SERVICE_STATE_RUNNING' && instance.health === 'HEALTH_PASSING') {
        this.#well = true;
        for (const hint of hints(this.#options)) await output.line(hint);
      }
    }
    for (const service of removed) {
      this.#shown.delete(service);
      await output.line(`${clockTime(new Date(now), now)}  ${service} is gone`);
    }
  }

  async alerts(changed: readonly Alert[]): Promise<void> {
    const { io, output } = this.#options;
    const now = io.clock.now();
    for (const alert of changed) {
      await output.line(
        `${clockTime(alert.cleared ?? alert.raised, now)}  ${alert.cleared === undefined ? 'ALERT' : 'cleared'} ${alert.kind}: ${inertLine(alert.message)}`,
      );
    }
  }

  run(): Promise<void> {
    return Promise.resolve();
  }
}

class LiveScreen implements View {
  readonly #options: ScreenOptions;
  readonly #instances = new Map<string, Instance>();
  readonly #alerts = new Map<string, Alert>();

  constructor(options: ScreenOptions) {
    this.#options = options;
  }

  begin(): Promise<void> {
    return this.#draw();
  }

  async instances(changed: readonly Instance[], removed: readonly string[]): Promise<void> {
    for (const instance of changed) this.#instances.set(instance.service, instance);
    for (const service of removed) this.#instances.delete(service);
    await this.#draw();
  }

  async alerts(changed: readonly Alert[]): Promise<void> {
    for (const alert of changed) {
      if (alert.cleared === undefined) this.#alerts.set(alert.id, alert);
      else this.#alerts.delete(alert.id);
    }
    await this.#draw();
  }

  async run(signal: AbortSignal): Promise<void> {
    for (;;) {
      await sleep(this.#options.io.clock, REFRESH_MS, signal);
      await this.#draw();
    }
  }

  async #draw(): Promise<void> {
    const { io } = this.#options;
    const now = io.clock.now();
    const rows = [...this.#instances.values()].sort((a, b) => a.service.localeCompare(b.service));
    const alerts = [...this.#alerts.values()].map(
      (alert) => `ALERT ${alert.kind} since ${clockTime(alert.raised, now)}: ${inertLine(alert.message)}`,
    );
    const lines = [
      `muster dev   ${clockTime(new Date(now), now)}   Ctrl-C ends everything`,
      '',
      rows.length === 0 ? 'starting ...\n' : renderTable(rows, instanceColumns(now)),
      ...(alerts.length === 0 ? ['no alerts'] : alerts),
      '',
      ...hints(this.#options),
      '',
    ];
    await write(io.stdout, CLEAR + lines.join('\n'));
  }
}
