import {
  ServerReflectionService,
  type ServerReflectionRequest,
  type ServerReflectionResponse,
} from '../../generated/grpc/reflection/v1/reflection.js';
import { MusterError } from '../kit/errors.js';
import type { Channel } from './channel.js';
import { createClient } from './client.js';
import { DescriptorIndex, descriptorSetOf } from './descriptors.js';
import { codeOf } from './status.js';
import type { CallOptions, ClientDuplex } from './types.js';

/** What a server says of itself by reflection. */
export interface ReflectedSchema {
  /** Full names of the services it serves, sorted. */
  readonly services: readonly string[];
  /** A FileDescriptorSet with everything the services need. */
  readonly descriptorSet: Uint8Array;
}

const REFLECTION_TIMEOUT_MS = 10_000;

type Question = NonNullable<ServerReflectionRequest['messageRequest']>;
type Answer = NonNullable<ServerReflectionResponse['messageResponse']>;

/**
 * Asks a server for its services and their descriptors.
 * @throws what the call throws; unimplemented when the server has no reflection
 */
export async function reflect(channel: Channel, options: CallOptions = {}): Promise<ReflectedSchema> {
  const client = createClient(ServerReflectionService, channel);
  const stream = client.serverReflectionInfo({ timeoutMs: REFLECTION_TIMEOUT_MS, ...options });
  const asker = new Asker(stream);
  try {
    const listed = await asker.ask({ $case: 'listServices', value: '*' });
    const services = listed.$case === 'listServicesResponse' ? listed.value.service.map(({ name }) => name).sort() : [];
    const files: Buffer[] = [];
    for (const service of services) {
      const answer = await asker.ask({ $case: 'fileContainingSymbol', value: service });
      if (answer.$case === 'fileDescriptorResponse') files.push(...answer.value.fileDescriptorProto);
    }
    const index = new DescriptorIndex(descriptorSetOf(files));
    return { services, descriptorSet: descriptorSetOf(index.inImportOrder()) };
  } finally {
    stream.cancel();
  }
}

/** Questions and answers alternate on one stream. */
class Asker {
  readonly #stream: ClientDuplex<ServerReflectionRequest, ServerReflectionResponse>;
  readonly #answers: AsyncIterator<ServerReflectionResponse>;

  constructor(stream: ClientDuplex<ServerReflectionRequest, ServerReflectionResponse>) {
    this.#stream = stream;
    this.#answers = stream[Symbol.asyncIterator]();
  }

  async ask(question: Question): Promise<Answer> {
    // A refused call shows its reason when it is read; the send only knows that it ended.
    await this.#stream.send({ host: '', messageRequest: question }).catch(() => undefined);
    const next = await this.#answers.next();
    const answer = next.done === true ? undefined : next.value.messageResponse;
    if (!answer) throw new MusterError('internal', 'the server ended its reflection without an answer');
    if (answer.$case !== 'errorResponse') return answer;
    throw new MusterError(codeOf(answer.value.errorCode), `reflection: ${answer.value.errorMessage}`);
  }
}
