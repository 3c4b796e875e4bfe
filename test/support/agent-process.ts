import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { TestContext } from 'node:test';
import type { AgentReady, RunAgentOptions } from '../../src/agent/main.js';
import { http, type HttpAnswer } from './local-agent.js';
import { waitFor } from './waiting.js';
import { programArgs } from './program.js';

const HOST = join(import.meta.dirname, 'agent-host');

export interface AgentExit {
  readonly code: number | null;
  readonly log: string;
}

export type AgentSettings = Omit<RunAgentOptions, 'data' | 'logger' | 'signal' | 'onReady'>;

/** A real agent in a process of its own. */
export class AgentProcess {
  readonly ready: AgentReady;
  readonly #child: ChildProcess;
  readonly #exit: Promise<AgentExit>;

  private constructor(child: ChildProcess, ready: AgentReady, exit: Promise<AgentExit>) {
    this.#child = child;
    this.ready = ready;
    this.#exit = exit;
  }

  /** Starts it and waits until it is ready. @throws with what it said when it ends before */
  static async start(data: string, settings: AgentSettings = {}): Promise<AgentProcess> {
    const child = spawn(process.execPath, programArgs(HOST, JSON.stringify({ data, ...settings })), {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let log = '';
    child.stderr.on('data', (chunk: Buffer) => (log += chunk.toString()));
    const exit = (async (): Promise<AgentExit> => {
      const [code] = (await once(child, 'close')) as [number | null];
      return { code, log };
    })();
    const first = await Promise.race([once(createInterface({ input: child.stdout }), 'line'), exit]);
    if (!Array.isArray(first)) throw new Error(`the agent ended with ${String(first.code)}: ${first.log}`);
    return new AgentProcess(child, JSON.parse(String(first[0])) as AgentReady, exit);
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Resolves when it has ended by itself. */
  get exit(): Promise<AgentExit> {
    return this.#exit;
  }

  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<AgentExit> {
    this.#child.kill(signal);
    return this.#exit;
  }

  ask(method: string, path: string): Promise<HttpAnswer> {
    return http({ socketPath: this.ready.socket, method, path });
  }

  /** The instance once it is in that state. */
  async instance(service: string, state: string): Promise<{ readonly pid: number; readonly reason: string }> {
    return waitFor(`${service} ${state}`, async () => {
      const found = JSON.parse((await this.ask('GET', `/services/${service}`)).body) as {
        state: string;
        pid: number;
        reason: string;
      };
      return found.state === `SERVICE_STATE_${state}` && found;
    });
  }
}

/** A data directory whose services are killed after the test, with one service that sleeps. */
export async function agentData(t: TestContext, manifest = ''): Promise<string> {
  const data = await mkdtemp(join(tmpdir(), 'muster-agent-'));
  await mkdir(join(data, 'manifests'));
  await declare(data, 'sleeper', manifest || 'name: sleeper\ncommand: [sleep, "3600"]\nstart: { settle: 200ms }\n');
  t.after(async () => {
    const agent = await AgentProcess.start(data, { stopServicesOnExit: true });
    await agent.end();
    await rm(data, { recursive: true, force: true });
  });
  return data;
}

export async function declare(data: string, service: string, manifest: string): Promise<void> {
  await writeFile(join(data, 'manifests', `${service}.yaml`), manifest);
}
