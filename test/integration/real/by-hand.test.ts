import assert from 'node:assert/strict';
import { chmod, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { freePort, must, system, unless } from '../../support/debian.js';
import { muster, ServerProcess, Site, type TestAgent } from '../../support/site.js';
import { curl, localInstance, running } from './observe.js';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const BUF = join(ROOT, 'node_modules', '.bin', 'buf');
const SERVICES_OF_CENTER = ['muster.v1.Center', 'muster.v1.Config', 'muster.v1.Counter', 'grpc.health.v1.Health'];
const SERVICES_OF_AGENT = ['muster.v1.Agent', 'muster.v1.Config', 'muster.v1.Counter', 'grpc.health.v1.Health'];

describe('every call by hand', { skip: unless('curl') }, () => {
  let site: Site;
  let agent: TestAgent;

  before(async () => {
    site = await Site.start();
    agent = await site.addAgent('desk');
    await agent.declare('toy', 'name: toy\ncommand: [sleep, infinity]\nstart: { settle: 100ms }\n');
    await site.instance('toy', 'RUNNING', running);
  });

  after(() => site.close());

  /** The ways in: what goes before the method in a `buf curl` line, and the base of its address. */
  const overSocket = (socket: string): { options: string[]; base: string } => ({
    options: ['--protocol', 'grpc', '--http2-prior-knowledge', '--unix-socket', socket],
    base: 'http://localhost',
  });

  const buf = (way: { options: string[] }, ...args: string[]): Promise<string> =>
    must(BUF, 'curl', ...way.options, ...args);

  async function everyService(way: { options: string[]; base: string }, services: readonly string[]): Promise<void> {
    const listed = (await buf(way, '--list-services', way.base)).split('\n');
    for (const service of services) assert.ok(listed.includes(service), `${service} in ${listed.join(' ')}`);
    const methods = await buf(way, '--list-methods', way.base);
    for (const service of services) assert.ok(methods.includes(`${service}/`), service);
    assert.match(await buf(way, `${way.base}/grpc.health.v1.Health/Check`), /SERVING/);
  }

  it("buf curl lists and calls every service through the center's socket", async () => {
    const way = overSocket(site.socket);
    await everyService(way, SERVICES_OF_CENTER);
    await callCenter(way);
  });

  async function callCenter(way: { options: string[]; base: string }): Promise<void> {
    const call = (method: string, data = '{}'): Promise<string> => buf(way, '-d', data, `${way.base}/${method}`);
    assert.match(await call('muster.v1.Center/ListMachines'), /"name": ?"desk"/);
    assert.match(await call('muster.v1.Center/ListInstances', '{"service":"toy"}'), /SERVICE_STATE_RUNNING/);
    assert.match(await call('muster.v1.Config/Publish', '{"scope":{"service":"toy"},"text":"a: 1"}'), /revision/);
    assert.match(await call('muster.v1.Config/GetDocument', '{"scope":{"service":"toy"}}'), /a: 1/);
    await call('muster.v1.Counter/ListCounters');
  }

  it("buf curl lists and calls every service through the agent's socket", async () => {
    const way = overSocket(agent.socket);
    await everyService(way, SERVICES_OF_AGENT);
    const call = (method: string, data = '{}'): Promise<string> => buf(way, '-d', data, `${way.base}/${method}`);
    assert.match(await call('muster.v1.Agent/ListLocalServices'), /SERVICE_STATE_RUNNING/);
    assert.match(await call('muster.v1.Agent/RestartService', '{"service":"toy"}'), /SERVICE_STATE_RUNNING/);
  });

  it('buf curl lists and calls every service of the center with mutual TLS, and nothing without a certificate', async () => {
    const { token } = (await site.json('token', 'create', '--operator', 'ann')) as { token: string };
    const env = { HOME: site.directory, XDG_CONFIG_HOME: join(site.directory, 'config') };
    const address = String(site.center.ready['address']);
    const login = await muster(['login', address, '--token', token, '--json'], { env });
    assert.equal(login.status, 0, login.stderr);
    const { directory } = JSON.parse(login.stdout) as { directory: string };
    assert.equal((await stat(join(directory, 'key.pem'))).mode & 0o777, 0o600);
    const trust = ['--protocol', 'grpc', '--servername', 'center.muster', '--cacert', join(directory, 'ca.pem')];
    const identity = ['--cert', join(directory, 'cert.pem'), '--key', join(directory, 'key.pem')];
    const way = { options: [...trust, ...identity], base: `https://${address}` };
    await everyService(way, SERVICES_OF_CENTER);
    await callCenter(way);
    assert.match((await muster(['machines'], { env })).stdout, /desk/);

    // Without a certificate the server does not even describe itself: the contract comes from its files.
    const stranger = [...trust, '--schema', ROOT, '-d', '{}'];
    const nobody = await system(BUF, 'curl', ...stranger, `${way.base}/muster.v1.Center/ListMachines`);
    assert.notEqual(nobody.status, 0);
    assert.match(nobody.stderr, /unauthenticated/i);
  });

  it('muster call lists, describes and calls', async () => {
    assert.match((await site.cli('call', '--list')).stdout, /muster\.v1\.Center\/ListMachines/);
    assert.match((await site.cli('call', '--describe', 'muster.v1.Machine')).stdout, /last_contact/);
    const called = await site.cli('call', 'muster.v1.Center/ListMachines', '{}');
    assert.equal(called.status, 0, called.stderr);
    assert.match(called.stdout, /desk/);
  });

  it("curl drives the agent's HTTP API", async () => {
    const list = JSON.parse((await curl(agent, '/services')).body) as { instances: { service: string }[] };
    assert.deepEqual(
      list.instances.map((instance) => instance.service),
      ['toy'],
    );
    const before = await localInstance(agent, 'toy');
    const restart = await curl(agent, '/services/toy/restart', '-X', 'POST');
    assert.equal(restart.status, 200);
    assert.notEqual((JSON.parse(restart.body) as { pid: number }).pid, before.pid);
    const unknown = await curl(agent, '/services/tony');
    assert.equal(unknown.status, 404);
    assert.match(unknown.body, /toy/);
    assert.equal((await curl(agent, '/nothing')).status, 404);
    assert.equal((await curl(agent, '/healthz')).status, 200);
  });

  it('no GET changes anything, and what a web page could send is refused', async () => {
    const before = await localInstance(agent, 'toy');
    const get = await curl(agent, '/services/toy/stop', '-i');
    assert.equal(get.status, 405);
    assert.match(get.body, /^allow: POST/im);
    assert.equal((await curl(agent, '/services/toy/stop', '-X', 'POST', '-H', 'Host: evil.example')).status, 403);
    const foreign = await curl(agent, '/services/toy/stop', '-X', 'POST', '-H', 'Origin: https://evil.example');
    assert.equal(foreign.status, 403);
    assert.equal((await localInstance(agent, 'toy')).pid, before.pid);
  });

  it('loopback asks for the token', async () => {
    const port = await freePort();
    await agent.process.end('SIGTERM');
    const withLoopback = new ServerProcess(
      'agent desk with loopback',
      ['agent', '--data', agent.data, '--http-port', String(port), '--grpc-port', String(await freePort())],
      { log: join(site.directory, 'loopback.log') },
    );
    await withLoopback.start();
    try {
      const url = `http://127.0.0.1:${port}/services`;
      const status = async (...options: string[]): Promise<string> =>
        (await must('curl', '-s', '-o', '/dev/null', '-w', '%{http_code}', ...options, url)).trim();
      assert.equal(await status(), '401');
      assert.equal(await status('-H', 'Authorization: Bearer wrong'), '401');
      const file = join(agent.data, 'run', 'token');
      assert.equal((await stat(file)).mode & 0o777, 0o600);
      const bearer = `Authorization: Bearer ${(await readFile(file, 'utf8')).trim()}`;
      assert.equal(await status('-H', bearer), '200');
      assert.equal(await status('-H', bearer, '-H', 'Host: evil.example'), '403');
      assert.equal(await status('-H', bearer, '-H', 'Origin: http://evil.example'), '403');
    } finally {
      await withLoopback.end('SIGTERM');
      await agent.process.start();
    }
  });

  it('another user of the machine is refused', { skip: unless('root') }, async () => {
    // The folder of the tests is closed to others; a real data directory is below one that is open.
    await chmod(site.directory, 0o711);
    for (const socket of [agent.socket, site.socket]) {
      assert.equal((await stat(socket)).mode & 0o777, 0o600);
      const asOther = await system(
        ...['setpriv', '--reuid=nobody', '--regid=nogroup', '--clear-groups'],
        ...['curl', '-s', '--unix-socket', socket, 'http://localhost/services'],
      );
      assert.notEqual(asOther.status, 0);
      assert.equal(asOther.stdout, '');
    }
  });
});
