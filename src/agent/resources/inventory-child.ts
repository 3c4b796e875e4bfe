/**
 * A program of its own: prints what systeminformation finds as one JSON object, and ends. It blocks, starts shells and takes memory,
 * none of which the agent should.
 */
import si from 'systeminformation';
import type { SystemFacts } from './inventory-facts.js';

const [os, cpu, disks] = await Promise.all([si.osInfo(), si.cpu(), si.fsSize()]);
const facts: SystemFacts = {
  os: { distro: os.distro, release: os.release, kernel: os.kernel, arch: os.arch },
  cpu: { manufacturer: cpu.manufacturer, brand: cpu.brand },
  disks: disks.map(({ mount, type, size, used }) => ({ mount, type, size, used })),
};
process.stdout.write(JSON.stringify(facts));
