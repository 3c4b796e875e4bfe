import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseListeners } from '../../../../src/agent/services/occupied.js';
import { judgeUnit, parseUnit } from '../../../../src/agent/services/systemd-driver.js';
import { judgeStatus } from '../../../../src/agent/services/sysv-driver.js';
import { parsePasswd } from '../../../../src/agent/services/users.js';

describe('what the system says', () => {
  it('of listening sockets', () => {
    const text = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4321 1 0000 100 0 0 10 0
   1: 0100007F:1F91 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4322 1 0000 100 0 0 10 0
`;
    assert.deepEqual(parseListeners(text), [{ address: '0100007F', port: 8080, inode: '4321' }]);
  });

  it('of a user', () => {
    assert.deepEqual(parsePasswd('nobody:x:65534:65533:nobody:/nonexistent:/usr/sbin/nologin\n'), {
      name: 'nobody',
      uid: 65534,
      gid: 65533,
      home: '/nonexistent',
      shell: '/usr/sbin/nologin',
    });
    assert.equal(parsePasswd('x:y'), undefined);
  });

  it('of a unit', () => {
    const unit = (active: string, result: string, code: number, status: number) =>
      judgeUnit(
        parseUnit(
          `MainPID=32\nResult=${result}\nExecMainStartTimestamp=Mon 2026-11-23 07:23:42 UTC\nExecMainCode=${code}\nExecMainStatus=${status}\nLoadState=loaded\nActiveState=${active}\nSubState=x`,
        ),
        5,
      );
    assert.deepEqual(unit('active', 'success', 0, 0), {
      kind: 'running',
      running: { pid: 32, startedMs: Date.UTC(2026, 10, 23, 7, 23, 42) },
    });
    assert.deepEqual(unit('inactive', 'success', 1, 0), {
      kind: 'ended',
      exit: { code: 0, signal: '' },
      reason: 'it was stopped outside Muster',
      rest: true,
    });
    assert.deepEqual(unit('failed', 'signal', 2, 9), {
      kind: 'ended',
      exit: { code: undefined, signal: 'SIGKILL' },
      reason: 'ended by SIGKILL (systemd: signal)',
      rest: false,
    });
    assert.equal(unit('maintenance', '', 0, 0).kind, 'unclear');
  });

  it('of an init script', () => {
    const running = { pid: 3, startedMs: 4 };
    assert.deepEqual(judgeStatus(0, '', running), { kind: 'running', running });
    const kinds = [1, 2, 3].map((code) => {
      const seen = judgeStatus(code, '', running);
      return seen.kind === 'ended' && seen.rest;
    });
    assert.deepEqual(kinds, [false, false, true]);
    assert.equal(judgeStatus(4, 'who knows', running).kind, 'unclear');
    assert.equal(judgeStatus(undefined, '', running).kind, 'unclear');
  });
});
