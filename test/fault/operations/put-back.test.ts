import assert from 'node:assert/strict';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { begin, ended, outcomesOf, shown, until } from '../../support/operations-site.js';
import { Site, type TestAgent } from '../../support/site.js';
import { waitFor } from '../../support/waiting.js';

const NAMES = ['web-1', 'web-2', 'web-3'] as const;
const SERVICE = 'orders';

interface InstanceJson {
  readonly machineName: string;
  readonly state: string;
  readonly release?: { readonly version: string };
}

interface ListedOperation {
  readonly id: string;
  readonly action: string;
  readonly rollbackOf?: string;
  readonly rolledBackBy?: string;
}

describe('a deploy that is stopped, over agents that are real processes', () => {
  let site: Site;
  let directory: string;
  const agents: TestAgent[] = [];

  /** Its verify fails where a file says so. */
  async function push(version: string, verify: string): Promise<void> {
    const source = join(directory, version);
    await mkdir(source, { recursive: true });
    const manifest = [
      `name: ${SERVICE}`,
      `version: "${version}"`,
      'command: [/bin/sh, run.sh]',
      'start: { settle: 100ms, retries: 0 }',
      'verify: { exec: [/bin/sh, verify.sh], timeout: 60s }',
    ];
    await writeFile(join(source, 'muster.yaml'), `${manifest.join('\n')}\n`);
    await writeFile(join(source, 'run.sh'), `exec sleep 100000 # ${version}\n`);
    await writeFile(join(source, 'verify.sh'), verify);
    for (const script of ['run.sh', 'verify.sh']) await chmod(join(source, script), 0o755);
    const pushed = await site.cli('release', 'push', source);
    assert.equal(pushed.status, 0, pushed.stdout + pushed.stderr);
  }

  async function versions(): Promise<string[]> {
    const { instances } = (await site.json('services', SERVICE)) as { instances: InstanceJson[] };
    return instances
      .map(({ machineName, state, release }) => `${machineName} ${release?.version ?? 'none'} ${state}`)
      .sort();
  }

  const everywhere = (version: string): string[] => NAMES.map((name) => `${name} ${version} SERVICE_STATE_RUNNING`);

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'muster-put-back-'));
    site = await Site.start();
    for (const name of NAMES) agents.push(await site.addAgent(name, { role: 'web' }));
    await push('1.0.0', 'exit 0\n');
    await push('2.0.0', 'sleep 1; test ! -e "$MUSTER_SHARED_DIR/broken"\n');
  });

  after(async () => {
    await site.close();
    await rm(directory, { recursive: true, force: true });
  });

  it('is put back once, though the center is killed in its last verify and again while it is put back', async () => {
    const first = await ended(site, await begin(site, 'deploy', SERVICE, '1.0.0', '--on', 'role=web'));
    assert.equal(first.operation.state, 'OPERATION_STATE_SUCCEEDED', JSON.stringify(first.targets));
    await waitFor('1.0.0 everywhere', async () => (await versions()).join() === everywhere('1.0.0').join());
    const shared = join(agents[2]?.data ?? '', 'services', SERVICE, 'shared');
    await mkdir(shared, { recursive: true });
    await writeFile(join(shared, 'broken'), '');

    const id = await begin(site, 'deploy', SERVICE, '2.0.0', '--batch', '1', '--on-failure', 'all');
    await until(site, id, 'in its last verify', (found) => {
      const last = found.targets.find(({ machineName }) => machineName === 'web-3');
      return JSON.stringify(last ?? {}).includes('DEPLOY_STEP_VERIFY');
    });
    await site.center.end('SIGKILL');
    await site.center.start();
    const over = await ended(site, id);
    assert.equal(over.operation.state, 'OPERATION_STATE_FAILED', over.operation.message);
    assert.deepEqual(outcomesOf(over), ['web-1 SUCCEEDED', 'web-2 SUCCEEDED', 'web-3 FAILED']);
    const listed = async (): Promise<ListedOperation[]> =>
      ((await site.json('ops')) as { operations: ListedOperation[] }).operations;
    const back = (await listed()).find(({ rollbackOf }) => rollbackOf === id)?.id ?? '';
    assert.notEqual(back, '', 'nothing is put back');
    await until(site, back, 'under way', (found) => outcomesOf(found).some((one) => /STARTED|SUCCEEDED/.test(one)));
    await site.center.end('SIGKILL');
    await site.center.start();
    const undone = await ended(site, back);
    assert.deepEqual(outcomesOf(undone), ['web-1 SUCCEEDED', 'web-2 SUCCEEDED'], JSON.stringify(undone.targets));
    await waitFor('1.0.0 everywhere again', async () => (await versions()).join() === everywhere('1.0.0').join());
    const operations = await listed();
    assert.deepEqual(
      operations.map(({ action }) => action),
      ['ACTION_ROLLBACK', 'ACTION_DEPLOY', 'ACTION_DEPLOY'],
    );
    assert.equal(operations.find((one) => one.id === id)?.rolledBackBy, back);
    assert.equal((await shown(site, id)).operation.state, 'OPERATION_STATE_FAILED');
  });
});
