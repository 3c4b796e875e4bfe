import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ACTION_STRATEGY, type Strategy } from '../../../../src/center/operations/strategy.js';
import {
  chooseTargets,
  illnessOf,
  isSeen,
  problemOf,
  type Candidate,
  type TargetFleet,
  type Wanted,
} from '../../../../src/center/operations/targets.js';
import { MusterError } from '../../../../src/kit/errors.js';
import { seededRandom } from '../../../../src/kit/random.js';
import type { InstanceReport } from '../../../../src/model/instance.js';
import { wellInstance } from '../../../support/instance-report.js';

function candidate(name: string, facts: Partial<Candidate> = {}): Candidate {
  return {
    id: `id-${name}`,
    name,
    labels: {},
    online: true,
    agentVersion: '0.1.0',
    capabilities: ['search'],
    state: 'RUNNING',
    health: 'PASSING',
    ...facts,
  };
}

function fleetOf(candidates: readonly Candidate[], others: readonly Candidate[] = []): TargetFleet {
  return {
    candidates: (service) => (service === 'orders' ? candidates : []),
    candidate: (id) => candidates.find((one) => one.id === id),
    anywhere: () => [...candidates, ...others],
    somewhere: (id) => [...candidates, ...others].find((one) => one.id === id),
    serviceNames: () => ['orders', 'billing'],
  };
}

const fleet = fleetOf(
  [
    candidate('web-10', { labels: { role: 'web', zone: 'b' } }),
    candidate('web-2', { labels: { role: 'web', zone: 'a' }, online: false }),
    candidate('web-1', { labels: { role: 'web', zone: 'c' } }),
    candidate('db-1', { labels: { role: 'db' } }),
  ],
  [candidate('cache-1', { labels: { role: 'cache', tier: 'gold' } })],
);

function choose(wish: Partial<Wanted> & { readonly with?: Partial<Strategy> } = {}, seed = 1): string[] {
  const strategy = { ...ACTION_STRATEGY, ...wish.with };
  const wanted: Wanted = { action: 'RESTART', service: 'orders', selector: '', machines: undefined, ...wish, strategy };
  return chooseTargets(fleet, wanted, seededRandom(seed)).map(
    ({ candidate: { name }, canary }) => `${name}${canary ? '*' : ''}`,
  );
}

function refusal(wish: Partial<Wanted>): MusterError {
  try {
    choose(wish);
  } catch (error) {
    assert.ok(error instanceof MusterError);
    return error;
  }
  throw new Error('something was chosen');
}

describe('targets', () => {
  it('are every machine that has the service, or those that the selector names', () => {
    assert.deepEqual(choose(), ['db-1', 'web-1', 'web-2', 'web-10']);
    assert.deepEqual(choose({ selector: 'role=web,zone!=b' }), ['web-1', 'web-2']);
    assert.deepEqual(choose({ selector: 'role in (db,web),machine=*-1' }), ['db-1', 'web-1']);
    assert.deepEqual(choose({ selector: 'machine=id-web-10' }), ['web-10']);
  });

  it('say why each is one', () => {
    const wanted: Wanted = {
      action: 'STOP',
      service: 'orders',
      selector: 'role=web,!canary,machine=web-1',
      machines: undefined,
      strategy: ACTION_STRATEGY,
    };
    const labelled = fleetOf(
      [candidate('web-1', { labels: { role: 'web' } })],
      [candidate('x', { labels: { canary: '' } })],
    );
    assert.equal(chooseTargets(labelled, wanted, seededRandom(1))[0]?.why, 'role=web, no canary, machine=web-1');
    assert.equal(chooseTargets(labelled, { ...wanted, selector: '' }, seededRandom(1))[0]?.why, 'has orders');
  });

  it('come by name, by label, or by chance', () => {
    assert.deepEqual(choose({ with: { order: { by: 'label', key: 'zone' } } }), ['db-1', 'web-2', 'web-10', 'web-1']);
    const orders = new Set(
      [1, 2, 3, 4, 5].map((seed) => choose({ with: { order: { by: 'random' } } }, seed).join(' ')),
    );
    assert.ok(orders.size > 1, 'chance gives always the same');
    for (const order of orders) assert.equal(order.split(' ').sort().join(' '), 'db-1 web-1 web-10 web-2');
    assert.deepEqual(choose({ with: { order: { by: 'label', key: 'constructor' } } }), choose());
  });

  it('begin with canaries, connected ones where there are enough', () => {
    const web = { selector: 'role=web' };
    assert.deepEqual(choose({ ...web, with: { canary: 2 } }), ['web-1*', 'web-10*', 'web-2']);
    assert.deepEqual(choose({ ...web, with: { canary: 3 } }), ['web-1*', 'web-2*', 'web-10*']);
    assert.deepEqual(choose({ ...web, with: { canary: 9 } }), ['web-1*', 'web-2*', 'web-10*']);
  });

  it('of a list that was frozen are those machines, whatever their labels are now', () => {
    assert.deepEqual(choose({ selector: 'role=gone', machines: ['id-web-2', 'id-db-1', 'id-removed'] }), [
      'db-1',
      'web-2',
    ]);
    const error = refusal({ machines: ['id-removed'] });
    assert.match(error.message, /none of the machines that it is to go over has service "orders" any more/);
  });

  it('that nothing is are said with what is nearest', () => {
    const service = refusal({ service: 'order' });
    assert.equal(service.code, 'not_found');
    assert.match(service.message, /Did you mean "orders"/);
    assert.match(refusal({ selector: 'rle=web' }).message, /no machine has the label "rle".*"role"/);
    assert.match(refusal({ selector: 'machine=web-11' }).message, /there is no machine "web-11".*"web-1/);
    const none = refusal({ selector: 'role=cache' });
    assert.equal(none.reason, 'NO_TARGETS');
    assert.match(
      none.message,
      /no machine with service "orders" matches "role=cache"; it is on: web-10, web-2, web-1, db-1$/,
    );
  });

  it('of a selector that cannot be read are refused with the column', () => {
    const error = refusal({ selector: 'role=web,,zone=a' });
    assert.equal(error.code, 'invalid');
    assert.match(error.message, /column 10/);
    assert.deepEqual(
      error.fields.map(({ field }) => field),
      ['selector'],
    );
  });
});

describe('what speaks against a target', () => {
  it('is an agent too old to search, and nothing where its abilities are not known', () => {
    const old = candidate('web-1', { capabilities: ['commands'], agentVersion: '0.0.9' });
    assert.match(problemOf('SEARCH', old) ?? '', /web-1 \(version 0.0.9\) is too old to search logs: upgrade it/);
    assert.equal(problemOf('RESTART', old), undefined);
    assert.equal(problemOf('SEARCH', candidate('web-1')), undefined);
    assert.equal(problemOf('SEARCH', candidate('web-1', { capabilities: undefined })), undefined);
  });

  it('after the action is a state or a health that is not well', () => {
    assert.equal(illnessOf('RESTART', candidate('web-1')), undefined);
    assert.equal(illnessOf('RESTART', candidate('web-1', { state: 'FATAL' })), 'it is FATAL');
    assert.equal(illnessOf('RESTART', candidate('web-1', { health: 'CRITICAL' })), 'its health is CRITICAL');
    assert.equal(illnessOf('RESTART', candidate('web-1', { state: undefined, health: undefined })), undefined);
    assert.equal(illnessOf('STOP', candidate('web-1', { state: 'STOPPED', health: 'CRITICAL' })), undefined);
    assert.equal(illnessOf('STOP', candidate('web-1', { state: 'RUNNING' })), 'it is RUNNING');
    assert.equal(illnessOf('START', undefined), 'the service is not on its machine any more');
  });

  it('is an agent that cannot deploy or back up, said as what it is asked for', () => {
    const old = candidate('web-1', { capabilities: ['search'] });
    const said = (['DEPLOY', 'ROLLBACK', 'BACKUP', 'VERIFY_BACKUP', 'RESTORE'] as const).map((action) =>
      problemOf(action, old),
    );
    const words = ['deploy releases', 'roll back releases', 'make backups', 'verify backups', 'restore backups'];
    assert.deepEqual(
      said,
      words.map((what) => `the agent of web-1 (version 0.1.0) is too old to ${what}: upgrade it`),
    );
    assert.equal(problemOf('ROLLBACK', candidate('web-1', { capabilities: ['deploy'] })), undefined);
    assert.equal(problemOf('RESTORE', candidate('web-1', { capabilities: ['backup'] })), undefined);
  });

  it('after a deploy is not that it stays stopped, nor what was told before its end', () => {
    const stopped = (facts: Partial<InstanceReport>) =>
      candidate('web-1', { state: 'STOPPED', report: wellInstance({ state: 'STOPPED', ...facts }) });
    assert.equal(illnessOf('DEPLOY', stopped({ wanted: false })), undefined);
    assert.equal(illnessOf('ROLLBACK', stopped({ wanted: false })), undefined);
    assert.equal(illnessOf('DEPLOY', stopped({ wanted: true })), 'it is STOPPED');
    assert.equal(illnessOf('RESTART', stopped({ wanted: false })), 'it is STOPPED');
    assert.equal(illnessOf('DEPLOY', stopped({ wanted: true, deploying: 'START' })), undefined);
    assert.deepEqual(
      [isSeen('DEPLOY', undefined), isSeen('RESTART', undefined), isSeen('DEPLOY', stopped({ deploying: 'STOP' }))],
      [false, true, false],
    );
    assert.equal(illnessOf('DEPLOY', undefined), undefined, 'its agent may not have told of it yet');
    for (const action of ['BACKUP', 'VERIFY_BACKUP'] as const) {
      assert.equal(illnessOf(action, candidate('web-1', { state: 'FATAL' })), undefined);
    }
  });
});
