import { isUtf8 } from 'node:buffer';
import type { Message } from '../../generated/muster/v1/queue.js';

/**
 * What the queue's commands print with --json: the fields of the contract in JSON, those that are 0, false or empty too, since a script
 * looks for them; times as ISO 8601, durations as seconds (`30s`), numbers as numbers. What is not set is left out.
 */

/** A decoded message of the contract as JSON. */
export function wholeJson(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(wholeJson);
  if (typeof value !== 'object' || value === null) return value;
  if (value instanceof Date) return value.toISOString();
  if (isDuration(value)) return `${value.seconds + value.nanos / 1e9}s`;
  return objectJson(value);
}

/** The same of what is an object. */
export function objectJson(value: object): Record<string, unknown> {
  const entries = Object.entries(value) as [string, unknown][];
  return Object.fromEntries(
    entries.flatMap(([name, field]) =>
      field === undefined ? [] : [isOneof(field) ? [field.$case, wholeJson(field.value)] : [name, wholeJson(field)]],
    ),
  );
}

/** A message's own fields: text as `payload`, bytes that are no UTF-8 as `payloadBase64`. */
export function messageJson(
  message: Pick<Message, 'payload' | 'attributes' | 'key' | 'dedupeId'>,
): Record<string, unknown> {
  const { payload, attributes, key, dedupeId } = message;
  const content = isUtf8(payload)
    ? { payload: payload.toString('utf8') }
    : { payloadBase64: payload.toString('base64') };
  return { ...content, attributes, key, dedupeId };
}

/** A message with what the queue says of it, side by side. */
export function storedJson({ message, ...about }: { readonly message?: Message | undefined }): Record<string, unknown> {
  return { ...objectJson(about), ...(message ? messageJson(message) : {}) };
}

function isDuration(value: object): value is { readonly seconds: number; readonly nanos: number } {
  return 'seconds' in value && typeof value.seconds === 'number' && 'nanos' in value && typeof value.nanos === 'number';
}

function isOneof(value: unknown): value is { readonly $case: string; readonly value: unknown } {
  return typeof value === 'object' && value !== null && '$case' in value && typeof value.$case === 'string';
}
