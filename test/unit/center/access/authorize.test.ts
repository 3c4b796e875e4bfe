import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { CenterService } from '../../../../generated/muster/v1/center.js';
import { ConfigService } from '../../../../generated/muster/v1/config.js';
import { CounterService } from '../../../../generated/muster/v1/counter.js';
import { HealthService } from '../../../../generated/grpc/health/v1/health.js';
import { ServerReflectionService } from '../../../../generated/grpc/reflection/v1/reflection.js';
import { ServerReflectionService as AlphaReflectionService } from '../../../../generated/grpc/reflection/v1alpha/reflection.js';
import { RULES, authorize } from '../../../../src/center/access/authorize.js';
import { MusterError } from '../../../../src/kit/errors.js';
import type { Principal } from '../../../../src/rpc/principal.js';
import type { Definition } from '../../../../src/rpc/types.js';

const SERVED: readonly Definition[] = [
  CenterService,
  ConfigService,
  CounterService,
  HealthService,
  ServerReflectionService,
  AlphaReflectionService,
];

const PRINCIPALS: readonly Principal[] = [
  { kind: 'anonymous' },
  { kind: 'operator', name: 'ann' },
  { kind: 'center', name: 'center' },
  { kind: 'agent', machine: 'm-1' },
  { kind: 'queue', name: 'q' },
  { kind: 'service', machine: 'm-1', service: 's' },
];

function methods(): string[] {
  return SERVED.flatMap((definition) => Object.values(definition).map(({ path }) => path.slice(1)));
}

function mayCall(principal: Principal, method: string): boolean {
  try {
    authorize(principal, method);
    return true;
  } catch (error) {
    assert.ok(error instanceof MusterError);
    assert.equal(error.code, principal.kind === 'anonymous' ? 'unauthenticated' : 'denied');
    return false;
  }
}

describe('authorize', () => {
  it('has a rule for every method that is served, and for none that is not', () => {
    assert.deepEqual([...RULES.keys()].sort(), methods().sort());
  });

  it('lets nobody call a method without a rule', () => {
    for (const principal of PRINCIPALS) assert.equal(mayCall(principal, 'muster.v1.Center/Unheard'), false);
  });

  it('lets the anonymous only join and ask for health', () => {
    const open = methods().filter((method) => mayCall({ kind: 'anonymous' }, method));
    assert.deepEqual(open.sort(), [
      'grpc.health.v1.Health/Check',
      'grpc.health.v1.Health/Watch',
      'muster.v1.Center/Join',
    ]);
  });

  it('lets an agent do what an agent does, and nothing that steers the fleet', () => {
    const open = methods().filter(
      (method) => mayCall({ kind: 'agent', machine: 'm-1' }, method) && method.startsWith('muster.'),
    );
    assert.deepEqual(open.sort(), [
      'muster.v1.Center/Connect',
      'muster.v1.Center/FetchArtifact',
      'muster.v1.Center/FetchBackup',
      'muster.v1.Center/Join',
      'muster.v1.Center/ListQueues',
      'muster.v1.Center/Renew',
      'muster.v1.Center/ReportBackups',
      'muster.v1.Center/SignServiceCertificate',
      'muster.v1.Center/UploadBackup',
      'muster.v1.Center/UploadOutput',
      'muster.v1.Config/Get',
      'muster.v1.Config/ReportApplied',
      'muster.v1.Config/Watch',
      'muster.v1.Counter/Report',
    ]);
  });

  it('lets a service and a queue steer nothing', () => {
    const open = (principal: Principal): string[] =>
      methods().filter((method) => mayCall(principal, method) && method.startsWith('muster.'));
    assert.deepEqual(open({ kind: 'service', machine: 'm-1', service: 's' }), ['muster.v1.Center/Join']);
    assert.deepEqual(open({ kind: 'queue', name: 'q' }).sort(), [
      'muster.v1.Center/Join',
      'muster.v1.Center/RegisterQueue',
      'muster.v1.Center/Renew',
    ]);
  });
});
