import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { chmod, mkdir, readdir, readFile, readlink, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { must, nginxConfiguration, unless } from '../../support/debian.js';
import { Network } from '../../support/namespaces.js';
import { muster, Site, type CliResult, type TestAgent } from '../../support/site.js';
import { waitFor } from '../../support/waiting.js';

const MACHINES = ['ant', 'bee', 'cat'] as const;
const SHOP_PORT = 8090;
const WEB_PORT = 8088;

/** A real service: what it answers is made of its own version and of the module that it pins. */
const SERVER = `
import { createServer } from 'node:http';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
const lib = await import(pathToFileURL(join(process.env.MUSTER_MODULES, 'shared-lib', 'index.mjs')));
const version = readFileSync('VERSION', 'utf8').trim();
createServer((request, response) => {
  if (request.url === '/health') response.end('ok');
  else response.end(version + ' with ' + lib.name + '\\n');
}).listen(${SHOP_PORT}, '127.0.0.1');
`;

/** Asks the service itself what it is; the third version never answers as it should. */
const VERIFY = `
const answer = await (await fetch('http://127.0.0.1:${SHOP_PORT}/')).text();
console.log('it says ' + answer.trim());
process.exit(answer.startsWith(process.env.MUSTER_RELEASE + ' ') ? 0 : 3);
`;

const shopManifest = (version: string, lib: string): string => `name: shop
version: ${version}
command: [${process.execPath}, server.mjs]
ports: [{ name: http, port: ${SHOP_PORT} }]
ping: { http: /health, port: http, every: 1s }
start: { settle: 500ms }
verify: { exec: [${process.execPath}, verify.mjs], timeout: 20s }
modules: { shared-lib: ${lib} }
backup: { paths: [data/], keep: { last: 5 } }
`;

const webManifest = (version: string): string => `name: web
version: ${version}
command: [/usr/sbin/nginx, -p, ., -c, nginx.conf, -g, 'daemon off;']
user: root
ports: [{ name: http, port: ${WEB_PORT} }]
start: { settle: 500ms, retries: 1 }
`;

interface Module {
  readonly name: string;
  readonly version: string;
}

interface Instance {
  readonly machineName: string;
  readonly version?: string;
  readonly pid?: number;
  readonly state?: string;
  readonly release?: { readonly version: string; readonly modules?: readonly Module[] };
}

interface Target {
  readonly outcome: string;
  readonly deploy?: {
    readonly steps?: readonly unknown[];
    readonly current?: { readonly version: string };
  };
}

async function folder(path: string, files: Readonly<Record<string, string>>): Promise<string> {
  await mkdir(path, { recursive: true });
  for (const [name, text] of Object.entries(files)) await writeFile(join(path, name), text);
  return path;
}

/** Every file below a folder, by its path, as a hash. */
async function contents(root: string): Promise<Record<string, string>> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const hashes = await Promise.all(
    files.map(async (file) => [
      file.slice(root.length),
      createHash('sha256')
        .update(await readFile(file))
        .digest('hex'),
    ]),
  );
  return Object.fromEntries(hashes.sort()) as Record<string, string>;
}

function done(result: CliResult): CliResult {
  assert.equal(result.status, 0, result.stdout + result.stderr);
  return result;
}

describe('releases over three machines', { skip: unless('root', 'ip', 'curl', 'nginx') }, () => {
  let network: Network;
  let site: Site;
  const agents = new Map<string, TestAgent>();
  const agentOf = (name: string): TestAgent => {
    const agent = agents.get(name);
    assert.ok(agent);
    return agent;
  };
  const asks = (name: string, port: number): Promise<string> =>
    must(...network.host(name).prefix, 'curl', '-sf', '--max-time', '5', `http://127.0.0.1:${port}/`);
  const instances = async (service: string): Promise<readonly Instance[]> =>
    ((await site.json('services', service)) as { readonly instances: readonly Instance[] }).instances;
  /** What each machine runs, as its own service answers and as the center shows it. */
  const everywhere = async (version: string, lib: string): Promise<void> => {
    for (const name of MACHINES) assert.equal(await asks(name, SHOP_PORT), `${version} with ${lib}\n`, name);
    for (const instance of await instances('shop')) {
      assert.equal(instance.version, version, instance.machineName);
      assert.deepEqual(
        instance.release?.modules?.map((module) => `${module.name} ${module.version}`),
        [`shared-lib ${lib.replace('lib ', '')}`],
      );
    }
  };
  /** The only one of an operation. */
  const targetOf = async (operation: string): Promise<Target> => {
    const { targets } = (await site.json('ops', operation)) as { readonly targets: readonly Target[] };
    assert.equal(targets.length, 1);
    const [target] = targets;
    assert.ok(target);
    return target;
  };
  const push = async (
    kind: 'release' | 'module',
    name: string,
    files: Readonly<Record<string, string>>,
  ): Promise<void> => {
    done(await site.cli(kind, 'push', await folder(join(site.directory, 'sources', name), files)));
  };

  before(async () => {
    network = await Network.create('center', ...MACHINES);
    const { address, prefix } = network.host('center');
    site = await Site.start({ prefix, listen: `${address}:7400` });
    for (const name of MACHINES) {
      const agent = await site.addAgent(name, { role: 'web' }, network.host(name));
      agents.set(name, agent);
      await chmod(agent.data, 0o755);
    }
    for (const version of ['1.0.0', '1.1.0']) {
      await push('module', `lib-${version}`, {
        'module.yaml': `name: shared-lib\nversion: ${version}\n`,
        'index.mjs': `export const name = 'lib ${version}';\n`,
      });
    }
    for (const [version, lib, said] of [
      ['1.0.0', '1.0.0', '1.0.0'],
      ['2.0.0', '1.1.0', '2.0.0'],
      ['3.0.0', '1.1.0', 'nonsense'],
    ] as const) {
      await push('release', `shop-${version}`, {
        'muster.yaml': shopManifest(version, lib),
        'server.mjs': SERVER,
        'verify.mjs': VERIFY,
        VERSION: said,
      });
    }
  });
  after(async () => {
    await site.close();
    await network.close();
  });

  it('a first deploy brings the service to every machine, an upgrade its modules too', async () => {
    done(await site.cli('deploy', 'shop', '1.0.0', '--on', 'role=web', '--batch', '3'));
    await everywhere('1.0.0', 'lib 1.0.0');
    const upgraded = done(
      await site.cli('deploy', 'shop', '2.0.0', '--on', 'role=web', '--canary', '1', '--batch', '2'),
    );
    assert.match(upgraded.stdout, /SUCCEEDED/);
    await everywhere('2.0.0', 'lib 1.1.0');
    for (const name of MACHINES) {
      const modules = join(agentOf(name).data, 'modules', 'shared-lib');
      assert.equal((await readdir(modules)).length, 2, 'both versions of the module are side by side');
      assert.match(await readlink(join(agentOf(name).data, 'services', 'shop', 'current')), /^releases\/2\.0\.0-/);
    }
    const users = done(await site.cli('services', '--module', 'shared-lib@1.1.0'));
    for (const name of MACHINES) assert.match(users.stdout, new RegExp(name));
    assert.doesNotMatch(done(await site.cli('services', '--module', 'shared-lib@1.0.0')).stdout, /ant/);
  });

  it('a version that fails its verify is taken back on the canary by itself, and the others are not touched', async () => {
    const before = await instances('shop');
    const result = await site.cli('deploy', 'shop', '3.0.0', '--on', 'role=web', '--canary', '1');
    assert.equal(result.status, 1, result.stdout + result.stderr);
    assert.match(result.stdout + result.stderr, /it says nonsense/);
    await everywhere('2.0.0', 'lib 1.1.0');
    const now = await instances('shop');
    const moved = now.filter(
      ({ machineName, pid }) => before.find((one) => one.machineName === machineName)?.pid !== pid,
    );
    assert.equal(moved.length, 1, 'only the canary was restarted');
  });

  it('a rollback brings code and modules back together, also on the machine itself without the center', async () => {
    done(await site.cli('rollback', 'shop', '--to', '1.0.0'));
    await everywhere('1.0.0', 'lib 1.0.0');
    done(await site.cli('deploy', 'shop', '2.0.0', '--on', 'role=web', '--batch', '3'));
    await network.linkDown('bee');
    const agent = agentOf('bee');
    done(await muster(['--agent-socket', agent.socket, 'rollback', 'shop', '--to', '1.0.0'], agent.place));
    assert.equal(await asks('bee', SHOP_PORT), '1.0.0 with lib 1.0.0\n');
    await network.linkUp('bee');
    await waitFor('the center to hear of it', async () => {
      const found = (await instances('shop')).find(({ machineName }) => machineName === 'bee');
      return found?.version === '1.0.0';
    });
    done(await site.cli('deploy', 'shop', '2.0.0', '--on', 'machine=bee'));
    await everywhere('2.0.0', 'lib 1.1.0');
  });

  it('an agent that is killed in the middle of a deploy ends it after its return, once', async () => {
    const agent = agentOf('cat');
    const began = done(await site.cli('deploy', 'shop', '1.0.0', '--on', 'machine=cat', '--detach', '--json'));
    const { operation } = JSON.parse(began.stdout) as { readonly operation: { readonly id: string } };
    const { id } = operation;
    await waitFor('its first step', async () => (await targetOf(id)).deploy?.steps?.length);
    await agent.process.end('SIGKILL');
    await agent.process.start();
    const { deploy } = await waitFor('its end', async () => {
      const target = await targetOf(id);
      return target.outcome === 'OUTCOME_SUCCEEDED' && target;
    });
    assert.equal(deploy?.current?.version, '1.0.0');
    assert.equal(await asks('cat', SHOP_PORT), '1.0.0 with lib 1.0.0\n');
    done(await site.cli('deploy', 'shop', '2.0.0', '--on', 'machine=cat'));
  });

  it('nginx serves a site that is its release, and a broken configuration is taken back', async () => {
    // nginx writes below the shared directory: the release itself stays as it is.
    const shared = join(agentOf('ant').data, 'services', 'web', 'shared');
    const configuration = nginxConfiguration({ directory: shared, port: WEB_PORT, pidFile: join(shared, 'nginx.pid') });
    const text = configuration.replace('return 200 "well\\n";', 'root html;');
    for (const version of ['1.0.0', '2.0.0', '3.0.0']) {
      const source = join(site.directory, 'sources', `web-${version}`);
      await mkdir(join(source, 'html'), { recursive: true });
      await writeFile(join(source, 'html', 'index.html'), `site ${version}\n`);
      await writeFile(join(source, 'nginx.conf'), version === '3.0.0' ? text.replace('listen', 'lissten') : text);
      await writeFile(join(source, 'muster.yaml'), webManifest(version));
      done(await site.cli('release', 'push', source));
    }
    done(await site.cli('deploy', 'web', '1.0.0', '--on', 'machine=ant'));
    assert.equal(await asks('ant', WEB_PORT), 'site 1.0.0\n');
    done(await site.cli('deploy', 'web', '2.0.0', '--on', 'machine=ant'));
    assert.equal(await asks('ant', WEB_PORT), 'site 2.0.0\n');
    const failed = await site.cli('deploy', 'web', '3.0.0', '--on', 'machine=ant');
    assert.equal(failed.status, 1, failed.stdout + failed.stderr);
    assert.match(failed.stdout + failed.stderr, /lissten/);
    assert.equal(await asks('ant', WEB_PORT), 'site 2.0.0\n');
  });

  it('a backup is restored after the files were destroyed, byte for byte', async () => {
    const data = join(agentOf('ant').data, 'services', 'shop', 'shared', 'data');
    await mkdir(join(data, 'deep', 'er'), { recursive: true });
    for (let index = 0; index < 50; index += 1) {
      const text = createHash('sha512')
        .update(String(index))
        .digest('hex')
        .repeat(index * 20);
      await writeFile(join(data, index % 2 ? 'deep/er' : '.', `file-${index}`), text);
    }
    const before = await contents(data);
    done(await site.cli('backup', 'now', 'shop', '--on', 'machine=ant'));
    done(await site.cli('backup', 'verify', 'shop', '--on', 'machine=ant'));
    await rm(join(data, 'deep'), { recursive: true });
    await writeFile(join(data, 'file-0'), 'overwritten');
    done(await site.cli('backup', 'restore', 'shop', '--on', 'machine=ant', '--stop'));
    assert.deepEqual(await contents(data), before);
    assert.match(done(await site.cli('backup', 'ls', 'shop')).stdout, /ant/);
  });
});
