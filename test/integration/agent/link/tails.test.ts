import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { CommandOrder } from '../../../../generated/muster/v1/center.js';
import { Tails } from '../../../../src/agent/link/tails.js';
import { MusterError, type Code } from '../../../../src/kit/errors.js';
import { createLogger } from '../../../../src/kit/logger.js';
import { IdentityHolder } from '../../../../src/rpc/identity.js';
import { openChannel } from '../../../../src/rpc/client.js';
import { FakeCenter } from '../../../support/fake-center.js';
import { waitFor } from '../../../support/waiting.js';

describe('a log that the center does not take', () => {
  for (const [code, isSaid] of [
    ['exhausted', true],
    ['conflict', true],
    ['cancelled', false],
    ['unavailable', false],
  ] as const satisfies readonly (readonly [Code, boolean])[])
    it(`is ${isSaid ? '' : 'not '}said by the agent where the answer is ${code}`, async (t) => {
      const center = await FakeCenter.start(t, {
        handlers: { uploadOutput: () => Promise.reject(new MusterError(code, 'no more of it')) },
      });
      const identity = new IdentityHolder(await center.issue({ principal: { kind: 'agent', machine: 'm-1' } }));
      const channel = openChannel({ address: center.address, tls: { identity } });
      t.after(() => {
        channel.close();
      });
      const said: string[] = [];
      let ended = false;
      const tails = new Tails({
        tail: async function* (_question, signal) {
          try {
            for (;;) {
              await Promise.resolve();
              if (signal.aborted) return;
              yield [{ file: 'orders.log', text: 'line', notice: false, position: 'f1:1' }];
            }
          } finally {
            ended = true;
          }
        },
        channel: () => channel,
        machineName: () => 'web-1',
        logger: createLogger('warn', { write: (line) => void said.push(line) }),
      });
      tails.start(CommandOrder.fromPartial({ command: 'tail-1', service: 'orders', tail: { lines: 10 } }));
      await waitFor('the end', () => ended && !tails.cancel('tail-1'));
      assert.deepEqual(
        said.map((line) => /could not be sent to the center/.test(line) && /no more of it/.test(line)),
        isSaid ? [true] : [],
      );
    });
});
