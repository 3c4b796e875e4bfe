import { status as GrpcStatus } from '@grpc/grpc-js';
import {
  ServerReflectionService,
  type ServerReflectionRequest,
  type ServerReflectionResponse,
} from '../../generated/grpc/reflection/v1/reflection.js';
import { ServerReflectionService as ServerReflectionAlphaService } from '../../generated/grpc/reflection/v1alpha/reflection.js';
import { didYouMean } from '../kit/suggest.js';
import type { DescribedFile, DescriptorIndex } from './descriptors.js';
import { implement, type Implementation } from './implementation.js';
import type { Duplex } from './types.js';

type Question = NonNullable<ServerReflectionRequest['messageRequest']>;
type Answer = NonNullable<ServerReflectionResponse['messageResponse']>;

/**
 * Server reflection, v1 and v1alpha (the messages are the same). Serves descriptors byte for byte as they were built, since
 * re-encoding them loses options and map entries. @param services full names of what is served, reflection apart
 */
export function reflectionImplementations(descriptorSet: Uint8Array, services: readonly string[]): Implementation[] {
  let read: Promise<DescriptorIndex> | undefined;
  // With the first question: what reads descriptors takes a tenth of a second to load, and most servers are never asked.
  const readIndex = async (): Promise<DescriptorIndex> => {
    const { DescriptorIndex: Index } = await import('./descriptors.js');
    return new Index(descriptorSet);
  };
  const named = [...services, 'grpc.reflection.v1.ServerReflection', 'grpc.reflection.v1alpha.ServerReflection'].sort();
  const serve = async (stream: Duplex<ServerReflectionResponse, ServerReflectionRequest>): Promise<void> => {
    // A file's imports are sent once per stream: clients keep what they were sent.
    const sent = new Set<string>();
    for await (const request of stream) {
      const index = await (read ??= readIndex());
      const messageResponse = answer(request.messageRequest, { index, services: named, sent });
      await stream.send({ validHost: request.host, originalRequest: request, messageResponse });
    }
  };
  return [
    implement(ServerReflectionService, { serverReflectionInfo: serve }),
    implement(ServerReflectionAlphaService, { serverReflectionInfo: serve }),
  ];
}

interface Known {
  readonly index: DescriptorIndex;
  readonly services: readonly string[];
  readonly sent: Set<string>;
}

function answer(question: Question | undefined, known: Known): Answer {
  const { index } = known;
  switch (question?.$case) {
    case 'listServices':
      return { $case: 'listServicesResponse', value: { service: known.services.map((name) => ({ name })) } };
    case 'fileByFilename':
      return files(
        index.file(question.value),
        known,
        () => `no file "${question.value}".${didYouMean(question.value, index.files)}`,
      );
    case 'fileContainingSymbol': {
      const symbol = question.value.replace(/^\./, '');
      return files(index.declaring(symbol), known, () => `no symbol "${symbol}".${didYouMean(symbol, index.symbols)}`);
    }
    case 'fileContainingExtension': {
      const { containingType, extensionNumber } = question.value;
      return files(
        index.extending(containingType, extensionNumber),
        known,
        () => `no extension ${extensionNumber} of ${containingType}`,
      );
    }
    case 'allExtensionNumbersOfType':
      if (!index.declaring(question.value)) return failure(GrpcStatus.NOT_FOUND, `no message "${question.value}"`);
      return {
        $case: 'allExtensionNumbersResponse',
        value: { baseTypeName: question.value, extensionNumber: index.extensionNumbers(question.value) },
      };
    case undefined:
      return failure(GrpcStatus.INVALID_ARGUMENT, 'the request asks nothing');
  }
}

function files(file: DescribedFile | undefined, { index, sent }: Known, missing: () => string): Answer {
  if (!file) return failure(GrpcStatus.NOT_FOUND, missing());
  const closure = index.closure(file, sent);
  for (const { name } of closure) sent.add(name);
  return {
    $case: 'fileDescriptorResponse',
    value: { fileDescriptorProto: closure.map(({ bytes }) => Buffer.from(bytes)) },
  };
}

function failure(errorCode: GrpcStatus, errorMessage: string): Answer {
  return { $case: 'errorResponse', value: { errorCode, errorMessage } };
}
