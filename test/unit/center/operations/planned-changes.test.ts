import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Preview } from '../../../../src/center/operations/planned-changes.js';
import { recordOf } from '../../../../src/center/operations/records.js';
import type { Candidate } from '../../../../src/center/operations/targets.js';
import { MusterError } from '../../../../src/kit/errors.js';
import type { InstanceReport } from '../../../../src/model/instance.js';
import type { ReleaseRef } from '../../../../src/model/release.js';
import { FakeReleases, releaseRef } from '../../../support/fake-releases.js';
import { SERVICE } from '../../../support/operations-host.js';
import { wellInstance } from '../../../support/instance-report.js';

const V1 = releaseRef(SERVICE, '1.0.0', { lib: '1.0.0', gone: '3.0.0', same: '1.0.0' });
const V2 = releaseRef(SERVICE, '2.0.0', { lib: '1.1.0', added: '0.1.0', same: '1.0.0' });

function releases(manifests: { readonly one?: string; readonly two?: string } = {}): FakeReleases {
  const all = new FakeReleases();
  all.put(V1, manifests.one);
  all.put(V2, manifests.two);
  return all;
}

function candidate(report: Partial<InstanceReport> | undefined, facts: Partial<Candidate> = {}): Candidate {
  const told = report && wellInstance(report);
  const known = { state: told?.state, health: told?.health, report: told };
  return {
    id: 'a',
    name: 'a',
    labels: {},
    online: true,
    agentVersion: '1',
    capabilities: undefined,
    ...known,
    ...facts,
  };
}

function running(ref: ReleaseRef, facts: Partial<InstanceReport> = {}): Candidate {
  return candidate({ release: { ref, deployedMs: 0, verified: true }, ...facts });
}

function preview(action: 'DEPLOY' | 'ROLLBACK', version: string, from = releases()): Preview {
  const asking = { by: 'ann', from: '', reason: '', requestId: '', wait: false };
  const what = { action, service: SERVICE, selector: '', strategy: {}, search: undefined };
  return new Preview(recordOf({ ...asking, ...what, deploy: { version, onFailure: 'TARGET' } }, from, 0), from);
}

describe('what a deploy would change', () => {
  it('is the version, and the modules that come, go or change', () => {
    const { from, to, changes, problem } = preview('DEPLOY', '2.0.0').of(running(V1));
    assert.deepEqual([from, to, problem], [V1, V2, undefined]);
    assert.deepEqual(changes, [
      'version 1.0.0 -> 2.0.0',
      'module lib 1.0.0 -> 1.1.0',
      'module added none -> 0.1.0',
      'module gone 3.0.0 -> none',
    ]);
    assert.equal(preview('DEPLOY', '1.0.0').of(running(V2)).changes[0], 'downgrade 2.0.0 -> 1.0.0');
  });

  it('counts numbers in versions', () => {
    const [nine, ten] = [releaseRef(SERVICE, '1.9.0'), releaseRef(SERVICE, '1.10.0')];
    const all = releases();
    all.put(nine);
    all.put(ten);
    assert.deepEqual(preview('DEPLOY', '1.10.0', all).of(running(nine)).changes, ['version 1.9.0 -> 1.10.0']);
    assert.deepEqual(preview('DEPLOY', '1.9.0', all).of(running(ten)).changes, ['downgrade 1.10.0 -> 1.9.0']);
  });

  it('is said where a version or a module is another archive under the same name', () => {
    const [module] = V2.modules;
    assert.ok(module);
    const other = { ...V2, digest: V1.digest, modules: [{ ...module, digest: V1.digest }, ...V2.modules.slice(1)] };
    assert.deepEqual(preview('DEPLOY', '2.0.0').of(running(other)).changes, [
      'version 2.0.0, another archive',
      'module lib 1.1.0, another archive',
    ]);
    assert.deepEqual(preview('DEPLOY', '2.0.0').of(running(V2)).changes, ['the same release again']);
  });

  it('is who it runs as, by what, and where it listens', () => {
    const all = releases({
      one: `name: ${SERVICE}\ncommand: [./run]\nports: [{ name: http, port: 80 }, { name: old, port: 81 }]\n`,
      two: `name: ${SERVICE}\ndriver: systemd\nunit: other\nports: [{ name: http, port: 8080 }, { name: new, port: 82 }]\n`,
    });
    const { changes } = preview('DEPLOY', '2.0.0', all).of(running(V1));
    assert.deepEqual(changes.slice(4), [
      'driver process -> systemd',
      'port http 127.0.0.1:80 -> 127.0.0.1:8080',
      'port old 127.0.0.1:81 -> none',
      'port new none -> 127.0.0.1:82',
    ]);
    all.put(V1, 'not: [a manifest');
    assert.equal(preview('DEPLOY', '2.0.0', all).of(running(V1)).changes.length, 4, 'what cannot be read is left out');
  });

  it('is that there was no release, no service, or that nobody knows', () => {
    const said = (one: Candidate): readonly string[] => preview('DEPLOY', '2.0.0').of(one).changes;
    assert.deepEqual(said(candidate(undefined, { absent: true })), ['orders is new on this machine']);
    assert.deepEqual(said(candidate({ generation: 3 })), ['the first release: until now it runs from its assignment']);
    assert.match(said(candidate(undefined, { online: false })).join(), /not connected: what runs is not known/);
    assert.deepEqual(said(candidate(undefined)), ['its agent has not told of it yet']);
    assert.deepEqual(said(running(V2, { wanted: false })), [
      'the same release again',
      'it is stopped and stays stopped: nothing is verified',
    ]);
  });
});

describe('what a rollback would change', () => {
  it('is what the machine holds, the newest first, with its configuration', () => {
    const held = [{ ...V1, configRevision: 3 }, releaseRef(SERVICE, '0.9.0')];
    const machine = running({ ...V2, configRevision: 7 }, { heldReleases: held });
    const { to, changes } = preview('ROLLBACK', '').of(machine);
    assert.equal(to?.version, '1.0.0');
    assert.equal(changes.at(-1), 'configuration revision 7 -> 3');
    assert.equal(preview('ROLLBACK', '0.9.0').of(machine).to?.version, '0.9.0');
    const none = running({ ...V2, configRevision: 7 }, { heldReleases: [V1] });
    assert.equal(preview('ROLLBACK', '').of(none).changes.at(-1), 'configuration revision 7 -> none');
  });

  it('is a download where the machine does not hold it, and nothing where nobody has it', () => {
    const bare = running(V2);
    assert.equal(
      preview('ROLLBACK', '1.0.0').of(bare).changes.at(-1),
      'it is downloaded: the machine does not hold it',
    );
    assert.equal(preview('ROLLBACK', '').of(bare).problem, 'a holds no release to go back to');
    const revoked = releases();
    revoked.problem = new MusterError('precondition', 'revoked');
    assert.match(preview('ROLLBACK', '1.0.0', revoked).of(bare).problem ?? '', /the center cannot send it/);
    assert.equal(preview('ROLLBACK', '').of(candidate(undefined, { online: false })).problem, undefined);
  });
});
