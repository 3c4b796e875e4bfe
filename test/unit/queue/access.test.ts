import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { HealthService } from '../../../generated/grpc/health/v1/health.js';
import { ServerReflectionService } from '../../../generated/grpc/reflection/v1/reflection.js';
import { ServerReflectionService as AlphaReflectionService } from '../../../generated/grpc/reflection/v1alpha/reflection.js';
import { QueueService } from '../../../generated/muster/v1/queue.js';
import { MusterError } from '../../../src/kit/errors.js';
import {
  assertMayPublish,
  assertMaySee,
  assertMaySubscribe,
  authorize,
  RULES,
  type GuardedTopic,
} from '../../../src/queue/access.js';
import type { Principal } from '../../../src/rpc/principal.js';
import type { Definition } from '../../../src/rpc/types.js';

const SERVED: readonly Definition[] = [QueueService, HealthService, ServerReflectionService, AlphaReflectionService];

const OPERATOR: Principal = { kind: 'operator', name: 'ann' };
const NOT_FOR_SERVICES: readonly Principal[] = [
  { kind: 'center', name: 'center' },
  { kind: 'agent', machine: 'm-1' },
  { kind: 'queue', name: 'other' },
];

function service(name: string): Principal {
  return { kind: 'service', machine: 'm-1', service: name };
}

function methods(): string[] {
  return SERVED.flatMap((definition) => Object.values(definition).map(({ path }) => path.slice(1)));
}

/** What the principal may call of the queue itself. */
function open(principal: Principal): string[] {
  return methods()
    .filter(
      (method) =>
        refusalOf(() => {
          authorize(principal, method);
        }) === undefined,
    )
    .filter((method) => method.startsWith('muster.v1.Queue/'))
    .map((method) => method.replace('muster.v1.Queue/', ''))
    .sort();
}

function refusalOf(call: () => void): MusterError | undefined {
  try {
    call();
    return undefined;
  } catch (error) {
    assert.ok(error instanceof MusterError);
    return error;
  }
}

function topic(publishers: readonly string[], subscribers: readonly string[] = []): GuardedTopic {
  return { name: 'orders', settings: { publishers, subscribers } };
}

describe('who may call what at the queue', () => {
  it('has a rule for every method that is served, and for none that is not', () => {
    assert.deepEqual([...RULES.keys()].sort(), methods().sort());
  });

  it('lets operators call everything, services what an application does, and all others nothing', () => {
    assert.deepEqual(
      open(OPERATOR),
      Object.values(QueueService)
        .map(({ path }) => path.replace('/muster.v1.Queue/', ''))
        .sort(),
    );
    assert.deepEqual(open(service('orders')), [
      'CreateSubscription',
      'DeleteSubscription',
      'GetSubscription',
      'GetTopic',
      'Peek',
      'Publish',
      'PublishStream',
      'Pull',
      'Settle',
      'Subscribe',
    ]);
    for (const principal of [...NOT_FOR_SERVICES, { kind: 'anonymous' } as const])
      assert.deepEqual(open(principal), []);
  });

  it('answers health to everybody and reflection to everybody with a certificate', () => {
    for (const principal of NOT_FOR_SERVICES) {
      authorize(principal, 'grpc.health.v1.Health/Check');
      authorize(principal, 'grpc.reflection.v1.ServerReflection/ServerReflectionInfo');
    }
    authorize({ kind: 'anonymous' }, 'grpc.health.v1.Health/Check');
  });

  it('tells a caller without a certificate from one that may not', () => {
    const anonymous = refusalOf(() => {
      authorize({ kind: 'anonymous' }, 'muster.v1.Queue/Publish');
    });
    assert.deepEqual([anonymous?.code, anonymous?.reason], ['unauthenticated', 'NO_CREDENTIALS']);
    assert.match(anonymous?.message ?? '', /join first, or use the queue's own socket/);
    const agent = refusalOf(() => {
      authorize({ kind: 'agent', machine: 'm-1' }, 'muster.v1.Queue/Publish');
    });
    assert.deepEqual([agent?.code, agent?.reason], ['denied', 'NOT_ALLOWED']);
    assert.match(agent?.message ?? '', /agent of m-1 may not call muster\.v1\.Queue\/Publish/);
  });
});

describe('which topics a service may use', () => {
  it('lets every service of the site in where the topic names none', () => {
    assertMayPublish(service('orders'), topic([]));
    assertMaySubscribe(service('orders'), topic([]));
  });

  it('holds services to the names and patterns of the topic, each list for itself', () => {
    const guarded = topic(['orders', 'shop-*'], ['*-reports', 'bill*ing']);
    for (const name of ['orders', 'shop-', 'shop-eu']) assertMayPublish(service(name), guarded);
    for (const name of ['daily-reports', 'billing', 'bill-x-ing']) assertMaySubscribe(service(name), guarded);
    for (const name of ['order', 'orders2', 'ORDERS', 'my-shop-eu', 'daily-reports']) {
      assert.equal(
        refusalOf(() => {
          assertMayPublish(service(name), guarded);
        })?.reason,
        'NOT_A_PUBLISHER',
        name,
      );
    }
    for (const name of ['reports', 'billin', 'orders']) {
      assert.equal(
        refusalOf(() => {
          assertMaySubscribe(service(name), guarded);
        })?.reason,
        'NOT_A_SUBSCRIBER',
        name,
      );
    }
  });

  it('says who may not do what, and what to do', () => {
    const refused = refusalOf(() => {
      assertMayPublish(service('billing'), topic(['orders']));
    });
    assert.ok(refused);
    assert.equal(refused.code, 'denied');
    assert.match(refused.message, /service billing on m-1 may not publish to topic "orders".*publishers.*operator/);
  });

  it('shows a topic to whoever may use it in one way', () => {
    const guarded = topic(['orders'], ['billing']);
    assertMaySee(service('orders'), guarded);
    assertMaySee(service('billing'), guarded);
    assert.equal(
      refusalOf(() => {
        assertMaySee(service('other'), guarded);
      })?.reason,
      'NOT_ALLOWED',
    );
  });

  it('never holds an operator, and never lets anybody else in', () => {
    assertMayPublish(OPERATOR, topic(['orders']));
    assertMaySubscribe(OPERATOR, topic([], ['orders']));
    for (const principal of [...NOT_FOR_SERVICES, { kind: 'anonymous' } as const]) {
      assert.equal(
        refusalOf(() => {
          assertMayPublish(principal, topic([]));
        })?.code,
        'denied',
      );
      assert.equal(
        refusalOf(() => {
          assertMaySubscribe(principal, topic([]));
        })?.code,
        'denied',
      );
    }
  });

  it('takes no time over a pattern of many stars', () => {
    const hostile = topic([`${'*a'.repeat(2000)}*b`]);
    const startedMs = performance.now();
    assert.ok(
      refusalOf(() => {
        assertMayPublish(service('a'.repeat(5000)), hostile);
      }),
    );
    assert.ok(performance.now() - startedMs < 1000);
  });
});
