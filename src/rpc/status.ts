import { Metadata, status as GrpcStatus } from '@grpc/grpc-js';
import { MusterError, messageOf, type Code } from '../kit/errors.js';
import { decodeStatus, encodeStatus } from './wire.js';

/** The one place where this system's codes meet gRPC's. */
const STATUS_OF = {
  invalid: GrpcStatus.INVALID_ARGUMENT,
  unauthenticated: GrpcStatus.UNAUTHENTICATED,
  denied: GrpcStatus.PERMISSION_DENIED,
  not_found: GrpcStatus.NOT_FOUND,
  exists: GrpcStatus.ALREADY_EXISTS,
  conflict: GrpcStatus.ABORTED,
  precondition: GrpcStatus.FAILED_PRECONDITION,
  exhausted: GrpcStatus.RESOURCE_EXHAUSTED,
  unavailable: GrpcStatus.UNAVAILABLE,
  deadline: GrpcStatus.DEADLINE_EXCEEDED,
  cancelled: GrpcStatus.CANCELLED,
  unimplemented: GrpcStatus.UNIMPLEMENTED,
  data_loss: GrpcStatus.DATA_LOSS,
  internal: GrpcStatus.INTERNAL,
} as const satisfies Record<Code, GrpcStatus>;

const CODE_OF = {
  [GrpcStatus.OK]: 'internal',
  [GrpcStatus.CANCELLED]: 'cancelled',
  [GrpcStatus.UNKNOWN]: 'internal',
  [GrpcStatus.INVALID_ARGUMENT]: 'invalid',
  [GrpcStatus.DEADLINE_EXCEEDED]: 'deadline',
  [GrpcStatus.NOT_FOUND]: 'not_found',
  [GrpcStatus.ALREADY_EXISTS]: 'exists',
  [GrpcStatus.PERMISSION_DENIED]: 'denied',
  [GrpcStatus.RESOURCE_EXHAUSTED]: 'exhausted',
  [GrpcStatus.FAILED_PRECONDITION]: 'precondition',
  [GrpcStatus.ABORTED]: 'conflict',
  [GrpcStatus.OUT_OF_RANGE]: 'invalid',
  [GrpcStatus.UNIMPLEMENTED]: 'unimplemented',
  [GrpcStatus.INTERNAL]: 'internal',
  [GrpcStatus.UNAVAILABLE]: 'unavailable',
  [GrpcStatus.DATA_LOSS]: 'data_loss',
  [GrpcStatus.UNAUTHENTICATED]: 'unauthenticated',
} as const satisfies Record<GrpcStatus, Code>;

const DETAILS_KEY = 'grpc-status-details-bin';

/** A status travels in HTTP/2 headers, whose list both ends bound: what people wrote is cut, never refused. */
const MESSAGE_CHARACTERS_MAX = 1024;
const FIELDS_MAX = 16;
const FIELD_CHARACTERS_MAX = 320;
const METADATA_ENTRIES_MAX = 8;

/** A status as grpc-js sends it. */
export interface StatusObject {
  readonly code: GrpcStatus;
  readonly details: string;
  readonly metadata: Metadata;
}

function cut(text: string, characters: number): string {
  const kept = text.length <= characters ? text : `${text.slice(0, characters - 1)}…`;
  // Lone surrogates would make the percent-encoding of the trailer throw; the way through bytes replaces them.
  return Buffer.from(kept, 'utf8').toString('utf8');
}

/** The gRPC number of a code. */
export function statusOf(code: Code): GrpcStatus {
  return STATUS_OF[code];
}

/** The code of a gRPC number; a number gRPC does not define is "internal". */
export function codeOf(status: number): Code {
  return isStatus(status) ? CODE_OF[status] : 'internal';
}

function isStatus(value: number): value is GrpcStatus {
  return Object.hasOwn(CODE_OF, value);
}

/** The status and google.rpc details that say what `error` says. */
export function toStatus(error: MusterError): StatusObject {
  const code = STATUS_OF[error.code];
  const message = cut(error.message, MESSAGE_CHARACTERS_MAX);
  const metadata = new Metadata();
  const details = encodeStatus(code, message, {
    ...(error.reason === undefined ? {} : { reason: error.reason }),
    ...(error.retryAfterMs === undefined ? {} : { retryAfterMs: error.retryAfterMs }),
    metadata: Object.fromEntries(
      Object.entries(error.metadata)
        .slice(0, METADATA_ENTRIES_MAX)
        .map(([key, value]) => [cut(key, FIELD_CHARACTERS_MAX), cut(value, FIELD_CHARACTERS_MAX)]),
    ),
    fields: error.fields.slice(0, FIELDS_MAX).map(({ field, description }) => ({
      field: cut(field, FIELD_CHARACTERS_MAX),
      description: cut(description, FIELD_CHARACTERS_MAX),
    })),
  });
  if (details) metadata.set(DETAILS_KEY, details);
  return { code, details: message, metadata };
}

/** The failure a peer's status says. */
export function fromStatus(status: { code: number; details: string; metadata?: Metadata | undefined }): MusterError {
  const bytes = status.metadata?.get(DETAILS_KEY)[0];
  const details = Buffer.isBuffer(bytes) ? decodeStatus(bytes) : {};
  return new MusterError(codeOf(status.code), status.details, details);
}

/** Anything thrown, as a MusterError: what is not one already is a bug and becomes "internal". */
export function asMusterError(error: unknown): MusterError {
  if (error instanceof MusterError) return error;
  return new MusterError('internal', messageOf(error), { cause: error });
}
