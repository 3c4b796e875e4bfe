import {
  create,
  createFileRegistry,
  fromBinary,
  fromJson,
  toBinary,
  toJson,
  type DescMessage,
  type DescMethod,
  type FileRegistry,
  type JsonValue,
} from '@bufbuild/protobuf';
import { FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';
import type { MethodDefinition } from '@grpc/grpc-js';
import { loadFileDescriptorSetFromBuffer } from '@grpc/proto-loader';
import { MusterError, messageOf } from '../kit/errors.js';
import { nearest } from '../kit/suggest.js';
import type { Channel } from '../rpc/client.js';
import { reflect } from '../rpc/reflection-client.js';
import type { CallOptions } from '../rpc/types.js';

/** A method whose messages are JSON values here and protobuf on the wire. */
export type JsonDefinition = MethodDefinition<unknown, unknown>;

/** A method that can be called with JSON. */
export interface JsonMethod {
  /** `muster.v1.Center/ListMachines` */
  readonly name: string;
  readonly desc: DescMethod;
  readonly definition: JsonDefinition;
}

/** What a server serves, as it says by reflection. */
export class Schema {
  readonly registry: FileRegistry;
  readonly services: readonly string[];
  readonly #methods = new Map<string, JsonMethod>();

  constructor(services: readonly string[], descriptorSet: Uint8Array) {
    this.services = services;
    this.registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, descriptorSet));
    const loaded = loadFileDescriptorSetFromBuffer(Buffer.from(descriptorSet));
    for (const service of services) {
      const definition = loaded[service];
      for (const desc of this.registry.getService(service)?.methods ?? []) {
        const method = definition && !('format' in definition) ? definition[desc.name] : undefined;
        if (method) this.#add({ name: `${service}/${desc.name}`, desc, definition: this.#withJson(desc, method) });
      }
    }
  }

  static async read(channel: Channel, options: CallOptions): Promise<Schema> {
    const { services, descriptorSet } = await reflect(channel, options);
    return new Schema(services, descriptorSet);
  }

  /** Full names of the methods, in the order they are declared, service by service. */
  get methods(): readonly string[] {
    return [...this.#methods.keys()];
  }

  /**
   * A method by its full name, or by less where that is clear: `Center/ListMachines`, `center/listmachines`, `ListMachines`.
   * @throws not_found with the nearest name; invalid when several are meant
   */
  method(typed: string): JsonMethod {
    const wanted = slashed(typed, this.services);
    const exact = this.#methods.get(wanted);
    if (exact) return exact;
    const tail = wanted.toLowerCase();
    const like = [...this.#methods.values()].filter(({ name }) => endsAtWord(name.toLowerCase(), tail));
    const [only] = like;
    if (only && like.length === 1) return only;
    if (like.length > 1) {
      throw new MusterError(
        'invalid',
        `"${typed}" can mean ${like.map(({ name }) => name).join(' or ')}: write it out`,
      );
    }
    throw new MusterError('not_found', `there is no method "${typed}" here.${this.#hint(wanted)}`);
  }

  #hint(wanted: string): string {
    const whole = nearest(wanted, this.methods);
    const last = nearest(
      wanted.split('/').at(-1) ?? '',
      [...this.#methods.values()].map(({ desc }) => desc.name),
    );
    const near = whole ?? [...this.#methods.values()].find(({ desc }) => desc.name === last)?.name;
    return near === undefined ? ' "muster call --list" shows all.' : ` Did you mean "${near}"?`;
  }

  #add(method: JsonMethod): void {
    this.#methods.set(method.name, method);
  }

  #withJson(
    desc: DescMethod,
    method: Pick<JsonDefinition, 'path' | 'requestStream' | 'responseStream'>,
  ): JsonDefinition {
    const { path, requestStream, responseStream } = method;
    return {
      path,
      requestStream,
      responseStream,
      requestSerialize: (json: unknown) => Buffer.from(this.encode(desc.input, json)),
      requestDeserialize: (bytes: Buffer) => this.decode(desc.input, bytes),
      responseSerialize: (json: unknown) => Buffer.from(this.encode(desc.output, json)),
      responseDeserialize: (bytes: Buffer) => this.decode(desc.output, bytes),
    };
  }

  /** @throws invalid when the JSON is not such a message, with the nearest field name where one is wrong */
  encode(message: DescMessage, json: unknown): Uint8Array {
    try {
      return toBinary(message, fromJson(message, json as JsonValue, { registry: this.registry }));
    } catch (error) {
      throw new MusterError(
        'invalid',
        `this is not a ${message.typeName}: ${messageOf(error)}.${fieldHint(message, json)}`,
        {
          cause: error,
        },
      );
    }
  }

  /** JSON with every plain field present, also where it has its default, so that a reader sees what there is. */
  decode(message: DescMessage, bytes: Uint8Array): JsonValue {
    return toJson(message, fromBinary(message, bytes), { registry: this.registry, alwaysEmitImplicit: true });
  }

  /** A message with all defaults, and one of each message that may be repeated: something to fill in. */
  template(message: DescMessage): JsonValue {
    const whole = toJson(message, create(message), { registry: this.registry, alwaysEmitImplicit: true });
    if (typeof whole !== 'object' || whole === null || Array.isArray(whole)) return whole;
    for (const field of message.fields) {
      if (field.fieldKind !== 'list' || field.listKind !== 'message' || field.message === message) continue;
      whole[field.jsonName] = [toJson(field.message, create(field.message), { alwaysEmitImplicit: true })];
    }
    return whole;
  }
}

/** `a.b.Service.Method` and `/a.b.Service/Method` as `a.b.Service/Method`. */
function slashed(typed: string, services: readonly string[]): string {
  const name = typed.replace(/^\//, '');
  if (name.includes('/') || services.includes(name)) return name;
  const dot = name.lastIndexOf('.');
  return dot < 0 ? name : `${name.slice(0, dot)}/${name.slice(dot + 1)}`;
}

/** Whether `name` ends with `tail`, and the tail begins at a word of the name. */
function endsAtWord(name: string, tail: string): boolean {
  return name.endsWith(tail) && ['.', '/', undefined].includes(name.at(-tail.length - 1));
}

function fieldHint(message: DescMessage, json: unknown): string {
  if (typeof json !== 'object' || json === null) return '';
  const known = message.fields.flatMap(({ name, jsonName }) => [name, jsonName]);
  const unknown = Object.keys(json).find((key) => !known.includes(key));
  if (unknown === undefined) return '';
  const near = nearest(unknown, known);
  if (near !== undefined) return ` Did you mean "${near}"?`;
  const names = message.fields.map(({ jsonName }) => jsonName);
  return names.length === 0 ? ' It has no fields.' : ` Its fields are ${names.join(', ')}.`;
}
