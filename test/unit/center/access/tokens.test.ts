import assert from 'node:assert/strict';
import { inspect } from 'node:util';
import { describe, it } from 'node:test';
import { Attempts } from '../../../../src/center/access/attempts.js';
import { TOKEN_LIFETIME_MS, Tokens, type TokenRecord } from '../../../../src/center/access/tokens.js';
import { Table } from '../../../../src/center/table.js';
import { ManualClock } from '../../../../src/kit/clock.js';
import { silentLogger } from '../../../../src/kit/logger.js';
import { openMemoryStore } from '../../../../src/store/memory.js';

const CA_HASH = 'ab'.repeat(32);

async function fixture() {
  const store = await openMemoryStore();
  const clock = new ManualClock();
  const table = await Table.open<TokenRecord>({ store, prefix: 'token/', clock, logger: silentLogger });
  return { store, clock, table, tokens: new Tokens({ table, caHash: CA_HASH, clock }) };
}

const order = { kind: 'agent', lifetimeMs: undefined, name: '', labels: {}, createdBy: 'operator ann' } as const;

describe('tokens', () => {
  it('are stored as a hash only, and not printed', async () => {
    const { store, tokens } = await fixture();
    const { text } = await tokens.create(order);
    const [secret = ''] = text.reveal().split('.');
    for await (const { value } of store.range()) assert.equal(Buffer.from(value).includes(secret), false);
    assert.equal(inspect(text).includes(secret), false);
  });

  it('are good for fifteen minutes by the clock, once', async () => {
    const { clock, tokens } = await fixture();
    const first = await tokens.create(order);
    await clock.advance(TOKEN_LIFETIME_MS - 1);
    const record = tokens.check(first.text.reveal());
    await clock.advance(1);
    assert.throws(() => tokens.check(first.text.reveal()), { reason: 'TOKEN_EXPIRED' });
    await tokens.use(record, []);
    assert.throws(() => tokens.check(first.text.reveal()), { reason: 'TOKEN_USED' });
    await assert.rejects(tokens.use(record, []), { reason: 'TOKEN_USED' });
    assert.deepEqual(tokens.list(), []);
  });

  it('let one of many users through, and with it alone what it writes', async () => {
    const { store, tokens } = await fixture();
    const { text } = await tokens.create(order);
    const record = tokens.check(text.reveal());
    const outcomes = await Promise.allSettled(
      [1, 2, 3, 4].map((n) => tokens.use(record, [{ kind: 'put', key: `made/${n}`, value: Buffer.from('x') }])),
    );
    assert.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 1);
    const made: string[] = [];
    for await (const { key } of store.range({ prefix: 'made/' })) made.push(key);
    assert.equal(made.length, 1);
  });

  it('of another center are unknown here', async () => {
    const { tokens } = await fixture();
    const { text } = await tokens.create(order);
    const foreign = text.reveal().replace(CA_HASH, 'cd'.repeat(32));
    assert.throws(() => tokens.check(foreign), { reason: 'TOKEN_UNKNOWN' });
    assert.throws(() => tokens.check('nonsense'), { reason: 'TOKEN_FORMAT' });
  });

  it('have a lifetime within bounds, and are forgotten in the end', async () => {
    const { clock, table, tokens } = await fixture();
    for (const lifetimeMs of [0, -1, Number.NaN, 8 * 24 * 3_600_000]) {
      await assert.rejects(tokens.create({ ...order, lifetimeMs }), { reason: 'TOKEN_LIFETIME' });
    }
    await tokens.create(order);
    await clock.advance(8 * 24 * 3_600_000);
    await tokens.create(order);
    assert.equal(table.size, 1);
  });
});

describe('attempts', () => {
  it('slow one address down and forgive with time', async () => {
    const clock = new ManualClock();
    const attempts = new Attempts(clock);
    for (let tries = 0; tries < 20; tries += 1) {
      attempts.assertAllowed('10.0.0.1');
      attempts.failed('10.0.0.1');
    }
    assert.throws(
      () => {
        attempts.assertAllowed('10.0.0.1');
      },
      { reason: 'TOO_MANY_ATTEMPTS', retryAfterMs: 2000 },
    );
    attempts.assertAllowed('10.0.0.2');
    await clock.advance(2000);
    attempts.assertAllowed('10.0.0.1');
  });
});
