import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { ServiceDriver, Subject } from '../../../../src/agent/services/driver.js';
import { OfferedSocketDriver } from '../../../../src/agent/services/offered-socket.js';
import { systemClock } from '../../../../src/kit/clock.js';
import { silentLogger } from '../../../../src/kit/logger.js';
import { parseManifest } from '../../../../src/model/manifest.js';

const RUNNING = { pid: 7, startedMs: 0 };
const isRoot = process.getuid?.() === 0;

/** Writes down what is done, in order. */
function driverInto(done: string[]): ServiceDriver {
  const noted = <T>(what: string, value: T): Promise<T> => {
    done.push(what);
    return Promise.resolve(value);
  };
  return {
    pace: { runningMs: 1, idleMs: 2 },
    unit: () => ({
      find: () => noted('find', RUNNING),
      start: () => noted('start', RUNNING),
      terminate: () => noted('terminate', undefined),
      kill: () => noted('kill', undefined),
      observe: () => noted('observe', { kind: 'running', running: RUNNING }),
      lastLines: () => noted('lastLines', ['x']),
      surroundings: { environment: { A: 'b' } },
    }),
  };
}

function subject(more = ''): Subject {
  const manifest = parseManifest(`name: web\ndriver: systemd\n${more}`);
  return { manifest, logDirectory: '/l', sharedDirectory: '/s', workingDirectory: '/' };
}

describe('a service that others start', () => {
  const opened = (fails = false) => {
    const done: string[] = [];
    const driver = new OfferedSocketDriver(driverInto(done), {
      clock: systemClock,
      logger: silentLogger,
      environmentOf: ({ service, uid, gid }) => {
        done.push(`socket ${service} ${uid}:${gid}`);
        if (fails) throw new Error('no room');
        return {};
      },
    });
    const unit = (more?: string) => driver.unit(subject(more), () => undefined);
    return { done, driver, unit };
  };
  const own = `${process.getuid?.() ?? 0}:${process.getgid?.() ?? 0}`;

  it('has its socket before it is started or taken over', async () => {
    const { done, driver, unit } = opened();
    assert.deepEqual(driver.pace, { runningMs: 1, idleMs: 2 });
    assert.equal(await unit().find(), RUNNING);
    assert.equal(await unit().start(), RUNNING);
    await unit().terminate();
    await unit().kill();
    await unit().observe();
    assert.deepEqual(await unit().lastLines(), ['x']);
    assert.deepEqual(unit().surroundings.environment, { A: 'b' });
    const socket = `socket web ${own}`;
    assert.deepEqual(done, [socket, 'find', socket, 'start', 'terminate', 'kill', 'observe', 'lastLines']);
  });

  it('is not started without it, and is taken over all the same', async () => {
    const { done, unit } = opened(true);
    await assert.rejects(unit().start(), /its own socket cannot be made: no room/);
    assert.equal(await unit().find(), RUNNING);
    assert.ok(!done.includes('start'));
  });

  it('has a socket of the user that its manifest names', { skip: isRoot ? false : 'needs root' }, async () => {
    const { done, unit } = opened();
    await unit('user: daemon').start();
    assert.deepEqual(done, ['socket web 1:1', 'start']);
    await assert.rejects(unit('user: nobody-of-that-name').start(), /there is no user "nobody-of-that-name"/);
  });
});
