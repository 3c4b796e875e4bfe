import type { CenterService, UploadOutputRequest } from '../../../generated/muster/v1/center.js';
import type { LogHit, LogLine } from '../../../generated/muster/v1/types.js';
import { MusterError } from '../../kit/errors.js';
import { untilAborted } from '../../rpc/streams.js';
import type { Handlers } from '../../rpc/types.js';
import type { Instances } from '../fleet/instances.js';
import type { Machines } from '../fleet/machines.js';
import { callingMachine } from '../principals.js';
import type { Outputs } from './outputs.js';
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
}

const LINES_DEFAULT = 10;
const LINES_MAX = 10_000;

function linesOf(asked: number): number {
  if (asked >= 0 && asked <= LINES_MAX) return asked === 0 ? LINES_DEFAULT : asked;
  throw new MusterError('invalid', `lines must be between 1 and ${LINES_MAX}`, { reason: 'LINES' });
}

/** Log lines from agents to operators. */
export function outputHandlers({ outputs, tails, machines, instances }: OutputParts): OutputHandlers {
  return {
    tailLog: async function* (request, { signal }): AsyncGenerator<LogLine> {
      const machine = machines.require(request.machine);
      instances.require(machine, request.service);
      const { id, name } = machine.record;
      const wish = {
        machine: { id, name },
        service: request.service,
        lines: linesOf(request.lines),
        follow: request.follow,
        position: '',
        file: request.file,
      };
      for await (const batch of tails.open(wish, signal)) {
        for (const line of batch.lines) yield { ...line, machineName: name, service: request.service };
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
  let failure: MusterError | undefined = new MusterError(
    'unavailable',
    'the agent stopped sending: contact with the machine was lost',
    {
      reason: 'MACHINE_LOST',
    },
  );
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
    failure = undefined;
  } finally {
    outputs.end(machine, command, failure);
  }
}
