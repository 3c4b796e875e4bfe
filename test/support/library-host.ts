import { writeSync } from 'node:fs';
import { Counter } from '../../src/counter/index.js';
import { connect } from '../../src/client/index.js';

/**
 * A program that links the library: `end` counts, reads its configuration and then has nothing more to do; `follow` says each
 * configuration on standard output until its input ends, and refuses a greeting that is not text.
 */

interface Settings {
  readonly greeting: unknown;
}

function say(fact: Record<string, unknown>): void {
  writeSync(1, `${JSON.stringify(fact)}\n`);
}

const [mode] = process.argv.slice(2);
const muster = await connect({ defaults: { greeting: 'default' }, timeoutMs: 3_000 });
say({ config: muster.config(), revision: muster.revision });
if (mode === 'end') {
  new Counter('runs').increment();
  say({ certificate: await muster.certificate().then(() => 'given', String) });
} else {
  if (process.argv[3] === 'refuse') muster.refuse(new Error('not this one'));
  muster.onChange<Settings>((config, { revision }) => {
    if (typeof config.greeting !== 'string') throw new TypeError('greeting must be text');
    say({ changed: config, revision, still: muster.config() });
  });
  process.stdin.on('end', () => void muster.close()).resume();
}
