import {
  ScalarType,
  type DescEnum,
  type DescField,
  type DescMessage,
  type DescMethod,
  type DescService,
} from '@bufbuild/protobuf';
import { MusterError } from '../kit/errors.js';
import { didYouMean } from '../kit/suggest.js';
import type { Schema } from './call-schema.js';

/** Numbers of the lists in FileDescriptorProto and DescriptorProto, as source locations name them. */
const FILE = { message: 4, enum: 5, service: 6 } as const;
const MESSAGE = { message: 3, enum: 4 } as const;
/** Methods of a service, fields of a message and values of an enum have the same number. */
const MEMBER = 2;

/**
 * A service, method, message or enum in the words of its .proto file.
 * @throws not_found with the nearest name
 */
export function describe(schema: Schema, name: string): string {
  const { registry } = schema;
  const service = registry.getService(name);
  if (service) return describeService(service);
  const type = registry.getMessage(name) ?? registry.getEnum(name);
  if (type) return type.kind === 'message' ? describeMessage(type) : describeEnum(type);
  const known = [...registry].map(({ typeName }) => typeName);
  try {
    return describeMethod(schema, schema.method(name).desc);
  } catch (error) {
    if (!(error instanceof MusterError) || error.code !== 'not_found') throw error;
    throw new MusterError(
      'not_found',
      `nothing is called "${name}" here.${didYouMean(name, [...known, ...schema.methods])}`,
    );
  }
}

function describeService(service: DescService): string {
  const methods = service.methods.flatMap((method) => [...comment(method, '  '), `  ${signature(method)}`, '']);
  return [...comment(service), `service ${service.typeName} {`, ...methods.slice(0, -1), '}'].join('\n');
}

function describeMethod(schema: Schema, method: DescMethod): string {
  return [
    ...comment(method),
    signature(method),
    '',
    ...messagesOf(method).flatMap((message) => [describeMessage(message), '']),
    'A request to fill in:',
    JSON.stringify(schema.template(method.input), null, 2),
  ].join('\n');
}

/** The messages of a method, then those in them, each once; those of other packages are known, or have names that say enough. */
function messagesOf({ input, output, parent }: DescMethod): readonly DescMessage[] {
  const { package: own } = parent.file.proto;
  const found = new Set([input, output]);
  // The set grows while it is walked.
  for (const message of found) {
    for (const { message: inner } of message.fields) {
      if (inner?.file.proto.package === own) found.add(inner);
    }
  }
  return [...found];
}

function signature({ name, input, output, methodKind }: DescMethod): string {
  const stream = (side: 'client_streaming' | 'server_streaming'): string =>
    methodKind === side || methodKind === 'bidi_streaming' ? 'stream ' : '';
  return `rpc ${name} (${stream('client_streaming')}${input.typeName}) returns (${stream('server_streaming')}${output.typeName});`;
}

function describeMessage(message: DescMessage): string {
  const lines = message.members.flatMap((member) =>
    member.kind === 'field'
      ? describeField(member, '  ')
      : [`  oneof ${member.name} {`, ...member.fields.flatMap((field) => describeField(field, '    ')), '  }'],
  );
  return [...comment(message), `message ${message.typeName} {`, ...lines, '}'].join('\n');
}

function describeField(field: DescField, indent: string): string[] {
  return [...comment(field, indent), `${indent}${typeOf(field)} ${field.name} = ${field.number};`];
}

function typeOf(field: DescField): string {
  switch (field.fieldKind) {
    case 'map':
      return `map<${scalar(field.mapKey)}, ${field.mapKind === 'scalar' ? scalar(field.scalar) : named(field)}>`;
    case 'list':
      return `repeated ${field.listKind === 'scalar' ? scalar(field.scalar) : named(field)}`;
    case 'scalar':
      return `${optional(field)}${scalar(field.scalar)}`;
    case 'enum':
      return `${optional(field)}${named(field)}`;
    case 'message':
      return named(field);
  }
}

function scalar(type: ScalarType): string {
  return ScalarType[type].toLowerCase();
}

function named(field: { readonly message?: DescMessage | undefined; readonly enum?: DescEnum | undefined }): string {
  return (field.message ?? field.enum)?.typeName ?? '';
}

function optional({ proto }: DescField): string {
  return proto.proto3Optional ? 'optional ' : '';
}

function describeEnum(type: DescEnum): string {
  const values = type.values.flatMap((value) => [...comment(value, '  '), `  ${value.name} = ${value.number};`]);
  return [...comment(type), `enum ${type.typeName} {`, ...values, '}'].join('\n');
}

/** The leading comment in the .proto file, where the server publishes it. */
function comment(desc: Type | Member, indent = ''): string[] {
  const path = pathOf(desc);
  const file = 'file' in desc ? desc.file : desc.parent.file;
  const location = file.proto.sourceCodeInfo?.location.find(
    (each) => each.path.length === path.length && each.path.every((step, index) => step === path[index]),
  );
  const text = location?.leadingComments.trimEnd() ?? '';
  return text === '' ? [] : text.split('\n').map((line) => `${indent}//${line}`);
}

type Member = DescMethod | DescField | DescEnum['values'][number];
type Type = DescService | DescMessage | DescEnum;

function pathOf(desc: Type | Member): number[] {
  switch (desc.kind) {
    case 'rpc':
      return [...pathOf(desc.parent), MEMBER, desc.parent.proto.method.indexOf(desc.proto)];
    case 'field':
      return [...pathOf(desc.parent), MEMBER, desc.parent.proto.field.indexOf(desc.proto)];
    case 'enum_value':
      return [...pathOf(desc.parent), MEMBER, desc.parent.proto.value.indexOf(desc.proto)];
    case 'service':
    case 'message':
    case 'enum':
      return pathOfType(desc);
  }
}

function pathOfType(desc: Type): number[] {
  const { proto } = desc.file;
  if (desc.kind === 'service') return [FILE.service, proto.service.indexOf(desc.proto)];
  const { parent } = desc;
  if (desc.kind === 'message') {
    if (!parent) return [FILE.message, proto.messageType.indexOf(desc.proto)];
    return [...pathOfType(parent), MESSAGE.message, parent.proto.nestedType.indexOf(desc.proto)];
  }
  if (!parent) return [FILE.enum, proto.enumType.indexOf(desc.proto)];
  return [...pathOfType(parent), MESSAGE.enum, parent.proto.enumType.indexOf(desc.proto)];
}
