/**
 * What an operator waits for: the start of a command (`muster machines` as a whole process), and a restart from the command line
 * through the center and the agent and back, for a service that stops and settles at once.
 * Run after `npm run build`: node --import tsx bench/latency.ts [--runs N]
 */
import { spawnSync } from 'node:child_process';
import { AgentService } from '../generated/muster/v1/agent.js';
import { CenterService } from '../generated/muster/v1/center.js';
import { systemClock } from '../src/kit/clock.js';
import { createClient, openChannel } from '../src/rpc/client.js';
import { muster, Site } from '../test/support/site.js';
import { quantile, row } from './measure.js';

const given = process.argv.indexOf('--runs');
const runs = given > 0 ? Number(process.argv[given + 1]) : 100;
const CLI_RUNS = 15;

const MANIFEST = `name: quick
version: 1.0.0
command: [sleep, "100000"]
start: { settle: 0s }
stop: { grace: 2s }
`;

async function timed(times: number, work: () => Promise<void>): Promise<number[]> {
  const samples: number[] = [];
  for (let index = 0; index < times; index += 1) {
    const began = systemClock.monotonic();
    await work();
    samples.push(systemClock.monotonic() - began);
  }
  return samples;
}

function show(what: string, samples: readonly number[], aim = ''): void {
  row(`${what}: p50 / p99`, `${quantile(samples, 0.5).toFixed(0)} / ${quantile(samples, 0.99).toFixed(0)} ms`, aim);
}

const site = await Site.start();
try {
  const agent = await site.addAgent('quick');
  await agent.declare('quick', MANIFEST);
  const { machine } = await site.instance('quick', 'RUNNING', (one) => one.state === 'SERVICE_STATE_RUNNING');

  const bare = await timed(CLI_RUNS, () => {
    spawnSync(process.execPath, ['-e', '0']);
    return Promise.resolve();
  });
  show('node -e 0, for comparison', bare);
  const listed = await timed(CLI_RUNS, async () => {
    await muster(['--socket', site.socket, 'machines']);
  });
  show('muster machines, whole process', listed, 'under 300 ms');

  const local = openChannel({ address: `unix:${agent.socket}` });
  const remote = openChannel({ address: `unix:${site.socket}` });
  const agentClient = createClient(AgentService, local);
  const center = createClient(CenterService, remote);
  show(
    'restart at the agent, one call',
    await timed(runs, async () => {
      await agentClient.restartService({ service: 'quick' });
    }),
  );
  show(
    'restart through the center: order, run, report',
    await timed(runs, async () => {
      const order = await center.runCommand({
        machine,
        service: 'quick',
        action: 'ACTION_RESTART',
        expiresIn: undefined,
        requestId: '',
        reason: '',
      });
      for await (const update of center.watchCommand({ id: order.id })) {
        if (update.outcome === 'OUTCOME_SUCCEEDED') break;
        if (update.outcome === 'OUTCOME_FAILED') throw new Error(update.message);
      }
    }),
  );
  show(
    'muster restart quick, whole process',
    await timed(CLI_RUNS, async () => {
      const result = await site.cli('restart', 'quick');
      if (result.status !== 0) throw new Error(result.stdout + result.stderr);
    }),
  );
  local.close();
  remote.close();
} finally {
  await site.close();
}
