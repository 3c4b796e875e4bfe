import type { Duration } from '../../generated/google/protobuf/duration.js';
import { BadRequest, ErrorInfo, RetryInfo } from '../../generated/google/rpc/error_details.js';
import { Status } from '../../generated/google/rpc/status.js';
import type { FieldViolation } from '../kit/errors.js';

/** What a status says beyond its number and its message, as google.rpc details carry it. */
export interface StatusDetails {
  readonly reason?: string;
  readonly metadata?: Readonly<Record<string, string>>;
  readonly fields?: readonly FieldViolation[];
  readonly retryAfterMs?: number;
}

/** The domain of this system's reasons in google.rpc.ErrorInfo. */
export const ERROR_DOMAIN = 'muster';

const TYPE_PREFIX = 'type.googleapis.com/google.rpc.';
const MS_PER_SECOND = 1000;
const NANOS_PER_MS = 1_000_000;

function detailMessages(details: StatusDetails): Status['details'] {
  const any: Status['details'] = [];
  const { reason = '', metadata = {}, fields = [], retryAfterMs } = details;
  if (reason !== '' || Object.keys(metadata).length > 0) {
    const info = ErrorInfo.encode({ reason, domain: ERROR_DOMAIN, metadata: { ...metadata } }).finish();
    any.push({ typeUrl: `${TYPE_PREFIX}ErrorInfo`, value: Buffer.from(info) });
  }
  if (fields.length > 0) {
    const bad = BadRequest.encode({ fieldViolations: fields.map((field) => ({ ...field })) }).finish();
    any.push({ typeUrl: `${TYPE_PREFIX}BadRequest`, value: Buffer.from(bad) });
  }
  if (retryAfterMs !== undefined) {
    const retry = RetryInfo.encode({ retryDelay: durationOf(retryAfterMs) }).finish();
    any.push({ typeUrl: `${TYPE_PREFIX}RetryInfo`, value: Buffer.from(retry) });
  }
  return any;
}

function durationOf(ms: number): Duration {
  const seconds = Math.floor(ms / MS_PER_SECOND);
  return { seconds, nanos: Math.round((ms - seconds * MS_PER_SECOND) * NANOS_PER_MS) };
}

/** The bytes of `grpc-status-details-bin`, or undefined where there is nothing to say beyond number and message. */
export function encodeStatus(code: number, message: string, details: StatusDetails): Buffer | undefined {
  const any = detailMessages(details);
  if (any.length === 0) return undefined;
  return Buffer.from(Status.encode({ code, message, details: any }).finish());
}

/** The details in `grpc-status-details-bin`. Details of other kinds, and bytes that are not a status, are passed over. */
export function decodeStatus(bytes: Uint8Array): StatusDetails {
  let details: StatusDetails = {};
  try {
    for (const { typeUrl, value } of Status.decode(bytes).details) {
      details = { ...details, ...decodeDetail(typeUrl, value) };
    }
  } catch {
    // A peer's status must stay readable when its details are not.
  }
  return details;
}

function decodeDetail(typeUrl: string, value: Uint8Array): StatusDetails {
  switch (typeUrl) {
    case `${TYPE_PREFIX}ErrorInfo`: {
      const { reason, metadata } = ErrorInfo.decode(value);
      return { ...(reason === '' ? {} : { reason }), metadata };
    }
    case `${TYPE_PREFIX}BadRequest`:
      return { fields: BadRequest.decode(value).fieldViolations };
    case `${TYPE_PREFIX}RetryInfo`: {
      const { retryDelay } = RetryInfo.decode(value);
      return { retryAfterMs: (retryDelay?.seconds ?? 0) * MS_PER_SECOND + (retryDelay?.nanos ?? 0) / NANOS_PER_MS };
    }
    default:
      return {};
  }
}
