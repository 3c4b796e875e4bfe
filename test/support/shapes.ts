import { MusterError } from '../../src/kit/errors.js';

/** A service with one method of every shape, for tests of the transport alone. Messages are JSON. */
export interface Note {
  readonly text: string;
}

function serialize(note: Note): Buffer {
  return Buffer.from(JSON.stringify(note));
}

function deserialize(bytes: Buffer): Note {
  const value: unknown = JSON.parse(bytes.toString('utf8'));
  if (typeof value === 'object' && value !== null && 'text' in value && typeof value.text === 'string')
    return { text: value.text };
  throw new MusterError('invalid', 'not a note');
}

function method<const P extends string, const Q extends boolean, const S extends boolean>(
  path: P,
  requestStream: Q,
  responseStream: S,
) {
  return {
    path,
    requestStream,
    responseStream,
    requestSerialize: serialize,
    requestDeserialize: deserialize,
    responseSerialize: serialize,
    responseDeserialize: deserialize,
  };
}

export const ShapesService = {
  echo: method('/test.Shapes/Echo', false, false),
  count: method('/test.Shapes/Count', false, true),
  collect: method('/test.Shapes/Collect', true, false),
  chat: method('/test.Shapes/Chat', true, true),
} as const;
