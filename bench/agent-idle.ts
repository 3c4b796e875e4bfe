/**
 * An agent at rest: five real services (small HTTP servers) probed every 10 s, over two minutes (or `--seconds N`).
 * Run after `npm run build`: node --import tsx bench/agent-idle.ts
 */
import { sleep, systemClock } from '../src/kit/clock.js';
import { Site } from '../test/support/site.js';
import { cpuSecondsOf, mebibytes, row, rssOf } from './measure.js';

const SERVICES = 5;
const given = process.argv.indexOf('--seconds');
const seconds = given > 0 ? Number(process.argv[given + 1]) : 120;

const PROGRAM = "require('http').createServer((q,s)=>s.end('ok')).listen(process.env.PORT,'127.0.0.1')";

function manifest(name: string, port: number): string {
  return `name: ${name}
version: 1.0.0
command: [${JSON.stringify(process.execPath)}, -e, ${JSON.stringify(PROGRAM)}]
env: { PORT: "${port}" }
ports: [{ name: http, port: ${port} }]
ping: { http: /, port: http, every: 10s, timeout: 2s }
start: { settle: 500ms }
`;
}

const site = await Site.start();
try {
  const agent = await site.addAgent('idle');
  const basePort = 20_000 + (process.pid % 20_000);
  for (let index = 0; index < SERVICES; index += 1) {
    await agent.declare(`svc${index}`, manifest(`svc${index}`, basePort + index));
  }
  for (let index = 0; index < SERVICES; index += 1) {
    await site.instance(`svc${index}`, 'PASSING', (one) => one.health === 'HEALTH_PASSING');
  }
  const pid = agent.process.pid;
  const centerPid = site.center.pid;
  // The start is not rest: let the first collections and the inventory pass.
  await sleep(systemClock, 10_000);
  const began = { agent: cpuSecondsOf(pid), center: cpuSecondsOf(centerPid), atMs: systemClock.monotonic() };
  let highest = 0;
  const samples: number[] = [];
  while (systemClock.monotonic() - began.atMs < seconds * 1000) {
    await sleep(systemClock, 1000);
    samples.push(rssOf(pid));
    highest = Math.max(highest, rssOf(pid));
  }
  const elapsed = (systemClock.monotonic() - began.atMs) / 1000;
  const mean = samples.reduce((sum, sample) => sum + sample, 0) / samples.length;
  row(`agent, ${SERVICES} services, over ${elapsed.toFixed(0)} s: memory, mean`, mebibytes(mean), 'under 90 MB');
  row('agent: memory, highest', mebibytes(highest));
  row('agent: CPU, of one core', `${(((cpuSecondsOf(pid) - began.agent) / elapsed) * 100).toFixed(2)} %`, 'under 1 %');
  row('center with this one agent: memory', mebibytes(rssOf(centerPid)));
  row('center: CPU', `${(((cpuSecondsOf(centerPid) - began.center) / elapsed) * 100).toFixed(2)} %`);
} finally {
  await site.close();
}
