import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { sleep, systemClock } from '../../../src/kit/clock.js';
import { freshSeed, randomBetween, seededRandom } from '../../../src/kit/random.js';
import { begin, CountedService, ended, type OperationJson } from '../../support/operations-site.js';
import { Site } from '../../support/site.js';
import { waitFor } from '../../support/waiting.js';

/** Of the center and of agents together. */
const KILLS = Number(process.env['MUSTER_OPERATION_KILLS'] ?? 4);
const AGENTS = 3;
const SERVICES = 4;
/** Between two kills at most, milliseconds. */
const REST_MAX_MS = 1500;

describe('kill -9 of the center and of agents at random moments of restarts', () => {
  const seed = Number(process.env['SEED'] ?? freshSeed());
  const random = seededRandom(seed);
  const services: CountedService[] = [];
  let site: Site;

  before(async () => {
    site = await Site.start();
    for (let index = 0; index < AGENTS; index += 1) {
      const agent = await site.addAgent(`web-${index}`);
      for (let number = 0; number < SERVICES; number += 1) {
        const service = new CountedService(agent, `service-${number}`);
        await service.declare();
        services.push(service);
      }
    }
    await allRun();
  });

  after(() => site.close());

  async function allRun(): Promise<void> {
    await waitFor('every service to run', async () => {
      const { instances = [] } = (await site.json('services')) as {
        instances?: { state: string; unknownSince?: string }[];
      };
      const running = instances.filter(
        (one) => one.state === 'SERVICE_STATE_RUNNING' && one.unknownSince === undefined,
      );
      return running.length === services.length;
    });
  }

  async function killOne(): Promise<void> {
    await sleep(systemClock, randomBetween(random, 0, REST_MAX_MS));
    const victim = randomBetween(random, 0, AGENTS + 1);
    const server = site.agents[victim]?.process ?? site.center;
    await server.end('SIGKILL');
    await server.start();
  }

  function judge({ targets }: OperationJson, service: CountedService, starts: number): string {
    const target = targets.find(({ machineName }) => machineName === service.agent.name);
    assert.ok(target, `${service.agent.name} is lost`);
    const what = `${service.name} on ${service.agent.name}: ${target.outcome}, started ${starts} times`;
    const outcome = target.outcome.replace('OUTCOME_', '');
    if (outcome === 'SUCCEEDED') assert.equal(starts, 1, what);
    else {
      // A service whose agent was killed while it was stopped is started by its supervision, not by the order.
      assert.ok(outcome === 'UNKNOWN', `${what}: ${target.message ?? ''}`);
      assert.ok(starts <= 1, what);
    }
    return outcome;
  }

  /** Restarts every service everywhere while something is killed. @returns how many targets ended how */
  async function round(kills: number): Promise<Record<string, number>> {
    await allRun();
    const earlier = await Promise.all(services.map((service) => service.starts()));
    const strategy = ['--batch', '1', '--unreachable-budget', '100%', '--budget', '100%', '--queue-for', '10m'];
    const ids: string[] = [];
    for (let number = 0; number < SERVICES; number += 1) {
      ids.push(await begin(site, 'restart', `service-${number}`, ...strategy));
    }
    for (let kill = 0; kill < kills; kill += 1) await killOne();
    const operations = await Promise.all(ids.map((id) => ended(site, id)));
    await allRun();
    const tally: Record<string, number> = {};
    for (const [index, service] of services.entries()) {
      const operation = operations[Number(service.name.slice('service-'.length))];
      assert.ok(operation);
      const outcome = judge(operation, service, (await service.starts()) - (earlier[index] ?? 0));
      tally[outcome] = (tally[outcome] ?? 0) + 1;
    }
    return tally;
  }

  it(`start every service once, or not more where nobody can know (${KILLS} kills)`, async (t) => {
    const all: Record<string, number> = {};
    try {
      for (let kills = 0; kills < KILLS;) {
        const some = Math.min(KILLS - kills, randomBetween(random, 2, 6));
        for (const [outcome, count] of Object.entries(await round(some))) all[outcome] = (all[outcome] ?? 0) + count;
        kills += some;
      }
    } catch (error) {
      throw new Error(`seed ${seed} fails: ${error instanceof Error ? error.message : String(error)}`, {
        cause: error,
      });
    }
    t.diagnostic(JSON.stringify(all));
    assert.ok((all['SUCCEEDED'] ?? 0) > 0);
  });
});
