import type { CenterService, UploadOutputRequest } from '../../../generated/muster/v1/center.js';
import type { LogHit, LogLine } from '../../../generated/muster/v1/types.js';
import type { Clock } from '../../kit/clock.js';
import { isCode, messageOf, MusterError } from '../../kit/errors.js';
import { systemRandom } from '../../kit/random.js';
import { assertPosition } from '../../model/log-position.js';
import { untilAborted } from '../../rpc/streams.js';
import type { Handlers } from '../../rpc/types.js';
import type { Instances } from '../fleet/instances.js';
import type { Machines } from '../fleet/machines.js';
import { callingMachine } from '../principals.js';
import { FleetTail, type TailedMachine } from './fleet-tail.js';
import type { Outputs } from './outputs.js';
import { tailedMachines } from './tailed-machines.js';
import type { Tails } from './tails.js';

export type OutputHandlers = Pick<Handlers<typeof CenterService>, 'uploadOutput' | 'tailLog'>;

/** What an agent sent in one message. */
export interface UploadedBatch {
  readonly lines: readonly LogLine[];
  readonly hits: readonly LogHit[];
}

export interface OutputParts {
  readonly outputs: Outputs<UploadedBatch>;
  readonly tails: Tails<UploadedBatch>;
  readonly machines: Machines;
  readonly instances: Instances;
  readonly clock: Clock;
}

const LINES_DEFAULT = 10;
const LINES_MAX = 10_000;
const POSITIONS_MAX = 1000;

function linesOf(asked: number): number {
  if (asked >= 0 && asked <= LINES_MAX) return asked === 0 ? LINES_DEFAULT : asked;
  throw new MusterError('invalid', `lines must be between 1 and ${LINES_MAX}`, { reason: 'LINES' });
}

/** Machines that lines were had from before, and that are not among those to read from now. */
function missing(positions: ReadonlyMap<string, string>, found: readonly TailedMachine[]): string[] {
  if (positions.size > POSITIONS_MAX) {
    throw new MusterError('invalid', `positions of at most ${POSITIONS_MAX} machines can be given`, {
      reason: 'POSITION',
    });
  }
  return [...positions.keys()].filter((known) => !found.some(({ name }) => name === known));
}

function notice(service: string, machineName: string, text: string): LogLine {
  return { machineName, service, file: '', text, notice: true, position: '' };
}

/** Log lines from agents to operators. */
export function outputHandlers({ outputs, tails, machines, instances, clock }: OutputParts): OutputHandlers {
  return {
    tailLog: async function* (request, { signal }): AsyncGenerator<LogLine> {
      const { service, file, follow } = request;
      const found = tailedMachines({ machines, instances }, request);
      const positions = new Map(Object.entries(request.positions));
      for (const position of positions.values()) assertPosition(position);
      const wish = { machines: found, service, file, follow, lines: linesOf(request.lines), positions };
      for (const machineName of missing(positions, found))
        yield notice(
          service,
          machineName,
          'it does not have the service any more, or does not match: its log ends here',
        );
      const isOnline = (id: string): boolean | undefined => (machines.has(id) ? machines.isOnline(id) : undefined);
      const parts = { tails, clock, random: systemRandom, isOnline };
      for await (const batch of new FleetTail(parts, wish).read(signal)) {
        const { name: machineName } = batch.machine;
        if ('notice' in batch) yield notice(service, machineName, batch.notice);
        else for (const line of batch.lines) yield { ...line, machineName, service };
      }
    },
    uploadOutput: async (requests, { principal }) => {
      const machine = callingMachine(principal);
      const frames = requests[Symbol.asyncIterator]();
      const first = await frames.next();
      if (first.done || first.value.command === '') {
        throw new MusterError('invalid', 'the first message must name the command that asked for the output', {
          reason: 'COMMAND',
        });
      }
      await relay(outputs, { machine, command: first.value.command, first: first.value, frames });
      return {};
    },
  };
}

interface Upload {
  readonly machine: string;
  readonly command: string;
  readonly first: UploadOutputRequest;
  readonly frames: AsyncIterator<UploadOutputRequest>;
}

/** Reads the next message only when the one before was taken: that is what holds a fast agent back. */
async function relay(outputs: Outputs<UploadedBatch>, { machine, command, first, frames }: Upload): Promise<void> {
  const left = outputs.begin(machine, command);
  let failure: MusterError | undefined;
  try {
    let next: IteratorResult<UploadOutputRequest> = { done: false, value: first };
    while (!next.done) {
      const { lines, hits, error } = next.value;
      if (lines.length + hits.length > 0) await outputs.deliver(machine, command, { lines, hits });
      if (error !== '') {
        failure = new MusterError('precondition', error, { reason: 'OUTPUT_FAILED' });
        return;
      }
      next = await untilAborted(frames.next(), left);
    }
  } catch (error) {
    failure = brokenOff(error);
    throw error;
  } finally {
    outputs.end(machine, command, failure);
  }
}

/** Why an agent's output broke off: in the words of the failure, except where its call was cut, which says nothing of why. */
function brokenOff(error: unknown): MusterError {
  if (isCode(error, 'unavailable', 'cancelled', 'deadline')) {
    return new MusterError('unavailable', 'the agent stopped sending before the end: try again', {
      reason: 'MACHINE_LOST',
      cause: error,
    });
  }
  return new MusterError(isCode(error) ? error.code : 'internal', `the output broke off: ${messageOf(error)}`, {
    reason: 'OUTPUT_FAILED',
    cause: error,
  });
}
