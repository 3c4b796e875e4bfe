import type { Command } from 'commander';
import { hostname } from 'node:os';
import { defaultDataDirectory, PORTS } from '../model/places.js';
import { labelArgument, portArgument } from './arguments.js';
import type { Io } from './io.js';
import { Output } from './output.js';
import { addServingOptions, serving, servingLogger, type ServingOptions } from './serving.js';

interface AgentOptions extends ServingOptions {
  readonly data?: string;
  readonly services?: string;
  readonly defaultUser?: string;
  readonly center?: string;
  readonly grpcPort: number;
  readonly httpPort: number;
  readonly loopback: boolean;
  readonly stopServicesOnExit?: boolean;
  readonly json?: boolean;
}

interface JoinOptions extends AgentOptions {
  readonly token: string;
  readonly name?: string;
  readonly label?: Record<string, string>;
  readonly run?: boolean;
}

function dataOf(io: Io, options: AgentOptions): string {
  return options.data ?? defaultDataDirectory('agent', io.places);
}

async function serve(io: Io, options: AgentOptions): Promise<void> {
  const { runAgent } = await import('../agent/main.js');
  const output = new Output(io, options);
  await serving(io, options, (signal) =>
    runAgent({
      data: dataOf(io, options),
      ...(options.services === undefined ? {} : { services: options.services }),
      ...(options.defaultUser === undefined ? {} : { defaultUser: options.defaultUser }),
      ...(options.center === undefined ? {} : { center: options.center }),
      ...(options.loopback ? { loopbackGrpc: options.grpcPort, loopbackHttp: options.httpPort } : {}),
      stopServicesOnExit: options.stopServicesOnExit === true,
      logger: servingLogger(options),
      signal,
      onReady: async (ready) => {
        await output.document(ready);
        await output.line(
          `agent ${ready.center === '' ? 'has not joined a center: services run, and "muster agent join CENTER --token TOKEN" joins' : `of ${ready.machineName}, center ${ready.center}`}`,
        );
        await output.line(`on this machine: muster --agent-socket ${ready.socket} services`);
      },
    }),
  );
}

async function join(io: Io, options: JoinOptions, center: string): Promise<void> {
  const { joinAgent } = await import('../agent/main.js');
  const output = new Output(io, options);
  const data = dataOf(io, options);
  const joined = await joinAgent({
    data,
    center,
    token: options.token,
    name: options.name ?? hostname(),
    labels: options.label ?? {},
  });
  await output.document({ machine: joined.machine, name: joined.name, site: joined.site, center });
  await output.line(`joined site ${joined.site} as machine ${joined.name} (${joined.machine})`);
  if (options.run === true) await serve(io, options);
  else await output.line(`run its agent with: muster agent${options.data === undefined ? '' : ` --data ${data}`}`);
}

function addAgentOptions(command: Command): Command {
  return addServingOptions(command)
    .option('--data <directory>', 'where it keeps its state')
    .option(
      '--services <directory>',
      "manifests of this machine's own services; default: manifests/ in the data directory",
    )
    .option(
      '--default-user <name>',
      "who runs a service that names no user; default: nobody for root, else the agent's own user",
    )
    .option('--grpc-port <port>', 'gRPC on 127.0.0.1, with a token', portArgument, PORTS.agentGrpc)
    .option('--http-port <port>', 'HTTP on 127.0.0.1, with a token', portArgument, PORTS.agentHttp)
    .option('--no-loopback', 'unix sockets only')
    .option('--stop-services-on-exit', 'stop the services with the agent (they go on running otherwise)');
}

export function register(program: Command, io: Io): void {
  const agent = addAgentOptions(program.command('agent').description('run the agent of this machine'))
    .option('--center <address>', 'the center, if it moved since the machine joined')
    .action((_options, command: Command) => serve(io, command.optsWithGlobals()));
  addAgentOptions(agent.command('join <center>').description('make this machine part of a site'))
    .requiredOption('--token <token>', 'from "muster token create"')
    .option('--name <name>', "the machine's name; default: its host name")
    .option('--label <key=value>', 'label; may be repeated', labelArgument)
    .option('--run', 'then run the agent')
    .action((center: string, _options, command: Command) => join(io, command.optsWithGlobals(), center));
}
