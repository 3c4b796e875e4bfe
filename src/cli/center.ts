import { join } from 'node:path';
import type { Command } from 'commander';
import { defaultDataDirectory, PORTS } from '../model/places.js';
import type { Io } from './io.js';
import { Output } from './output.js';
import { addServingOptions, serving, servingLogger, type ServingOptions } from './serving.js';

interface CenterOptions extends ServingOptions {
  readonly data?: string;
  readonly listen: string;
  readonly advertise?: string;
  readonly redirect?: string;
  readonly json?: boolean;
}

async function serve(io: Io, options: CenterOptions): Promise<void> {
  const { runCenter } = await import('../center/main.js');
  const output = new Output(io, options);
  const data = options.data ?? defaultDataDirectory('center', io.places);
  await serving(io, options, (signal) =>
    runCenter({
      data,
      listen: options.listen,
      ...(options.advertise === undefined ? {} : { advertise: options.advertise }),
      ...(options.redirect === undefined ? {} : { redirect: options.redirect }),
      logger: servingLogger(options),
      signal,
      onReady: async (ready) => {
        await output.document(ready);
        await output.line(`center of site ${ready.site} listens on ${ready.address}; its data is in ${data}`);
        await output.line(`operators on this machine: muster --socket ${join(data, 'admin.sock')} status`);
        if (ready.joinCommand !== undefined)
          await output.line(`paste this on a machine (single use, 15 minutes):\n  ${ready.joinCommand}`);
      },
    }),
  );
}

export function register(program: Command, io: Io): void {
  addServingOptions(
    program
      .command('center')
      .description('run the center of a site')
      .option('--data <directory>', 'where it keeps its state')
      .option('--listen <address>', 'for agents and operators', `0.0.0.0:${PORTS.centerGrpc}`)
      .option('--advertise <address>', 'the address agents are told; default: this host and port')
      .option('--redirect <address>', 'send agents to this center instead'),
  ).action((_options, command: Command) => serve(io, command.optsWithGlobals()));
}
