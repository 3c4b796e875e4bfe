/**
 * A real agent in a process of its own, to be killed by tests.
 *   node --import tsx agent-host.ts OPTIONS-AS-JSON
 * Prints the ready document as one JSON line; ends in good order at SIGTERM, with status 1 when the agent fails.
 */
import { runAgent, type RunAgentOptions } from '../../src/agent/main.js';
import { messageOf } from '../../src/kit/errors.js';
import { createLogger } from '../../src/kit/logger.js';

const stopping = new AbortController();
process.on('SIGTERM', () => {
  stopping.abort();
});
process.on('unhandledRejection', (error) => {
  process.stderr.write(`UNHANDLED ${messageOf(error)}\n`);
  process.exit(70);
});

try {
  await runAgent({
    ...(JSON.parse(process.argv[2] ?? '{}') as Pick<RunAgentOptions, 'data'>),
    logger: createLogger('info'),
    signal: stopping.signal,
    onReady: (ready) => {
      process.stdout.write(`${JSON.stringify(ready)}\n`);
    },
  });
} catch (error) {
  process.stderr.write(`FAILED ${messageOf(error)}\n`);
  process.exitCode = 1;
}
