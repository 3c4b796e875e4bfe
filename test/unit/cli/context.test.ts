import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { agentTarget, centerTarget, contextDirectory, currentContextFile, isLocal } from '../../../src/cli/context.js';
import { isCode } from '../../../src/kit/errors.js';
import { fakeIo } from '../../support/io.js';

describe('which center a command talks to', () => {
  let home = '';
  beforeEach(async () => {
    home = await mkdtemp(join(tmpdir(), 'muster-context-'));
  });
  afterEach(() => rm(home, { recursive: true }));

  async function touch(path: string, text = ''): Promise<string> {
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, text);
    return path;
  }

  it('is none where there is none, and says what to do', async () => {
    await assert.rejects(
      centerTarget(fakeIo({ home }), {}),
      (error: unknown) => isCode(error, 'not_found') && error.message.includes('muster dev'),
    );
  });

  it('prefers what was typed, then the environment, then the last login, then what is on this machine', async () => {
    const dev = await touch(join(home, '.local/share/muster/dev/center/admin.sock'));
    assert.deepEqual(await centerTarget(fakeIo({ home }), {}), { kind: 'socket', path: dev });

    const own = await touch(join(home, '.local/share/muster/center/admin.sock'));
    assert.deepEqual(await centerTarget(fakeIo({ home }), {}), { kind: 'socket', path: own });

    const io = fakeIo({ home });
    await touch(join(contextDirectory(io, 'prod'), 'context.json'), '{}');
    await touch(join(contextDirectory(io, 'test'), 'context.json'), '{}');
    await touch(currentContextFile(io), 'prod\n');
    const named = (name: string): object => ({ kind: 'context', name, directory: contextDirectory(io, name) });
    assert.deepEqual(await centerTarget(io, {}), named('prod'));

    const fromEnvironment = fakeIo({ home, env: { MUSTER_CONTEXT: 'test' } });
    assert.deepEqual(await centerTarget(fromEnvironment, {}), named('test'));

    const socketToo = fakeIo({ home, env: { MUSTER_CONTEXT: 'test', MUSTER_SOCKET: '/x.sock' } });
    assert.deepEqual(await centerTarget(socketToo, {}), { kind: 'socket', path: '/x.sock' });
    assert.deepEqual(await centerTarget(socketToo, { context: 'prod' }), named('prod'));
    assert.deepEqual(await centerTarget(socketToo, { socket: '/y.sock' }), { kind: 'socket', path: '/y.sock' });
  });

  it('refuses a context that was never made', async () => {
    await assert.rejects(
      centerTarget(fakeIo({ home }), { context: 'nowhere' }),
      /no context "nowhere": make it with "muster login/,
    );
  });

  it('finds the agent of this machine', async () => {
    const io = fakeIo({ home });
    assert.throws(() => agentTarget(io, {}), /no agent found/);
    const socket = await touch(join(home, '.local/share/muster/agent/run/agent.sock'));
    assert.deepEqual(agentTarget(io, {}), { kind: 'socket', path: socket });
    assert.deepEqual(agentTarget(io, { agentSocket: '/a.sock' }), { kind: 'socket', path: '/a.sock' });
    assert.equal(isLocal({}), false);
    assert.equal(isLocal({ local: true }), true);
    assert.equal(isLocal({ agentSocket: '/a.sock' }), true);
  });
});
