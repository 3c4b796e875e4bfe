import { fromBinary } from '@bufbuild/protobuf';
import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { FileDescriptorProtoSchema, type DescriptorProto, type FileDescriptorProto } from '@bufbuild/protobuf/wkt';
import { MusterError } from '../kit/errors.js';

/** The field of FileDescriptorSet that holds its files. */
const SET_FILE_FIELD = 1;

/** One .proto file: its descriptor as published, byte for byte, and what it declares. */
export interface DescribedFile {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly dependencies: readonly string[];
}

/** An extension field: of which message, under which number. */
interface Extension {
  readonly extendee: string;
  readonly number: number;
  readonly file: DescribedFile;
}

/** An index over a FileDescriptorSet: files by name, by the symbols they declare, by the extensions they define. */
export class DescriptorIndex {
  readonly #files = new Map<string, DescribedFile>();
  readonly #symbols = new Map<string, DescribedFile>();
  readonly #extensions: Extension[] = [];

  /** @throws invalid when the bytes are not a FileDescriptorSet */
  constructor(descriptorSet: Uint8Array) {
    for (const bytes of filesOf(descriptorSet)) this.#add(bytes);
  }

  /** Full names of everything declared. */
  get symbols(): Iterable<string> {
    return this.#symbols.keys();
  }

  get files(): Iterable<string> {
    return this.#files.keys();
  }

  file(name: string): DescribedFile | undefined {
    return this.#files.get(name);
  }

  declaring(symbol: string): DescribedFile | undefined {
    return this.#symbols.get(symbol);
  }

  extending(extendee: string, number: number): DescribedFile | undefined {
    return this.#extensions.find((extension) => extension.extendee === extendee && extension.number === number)?.file;
  }

  extensionNumbers(extendee: string): number[] {
    return this.#extensions.filter((extension) => extension.extendee === extendee).map(({ number }) => number);
  }

  /** The file and everything it imports, the file first; files whose names are in `sent` are left out, the file itself never. */
  closure(file: DescribedFile, sent: ReadonlySet<string> = new Set()): DescribedFile[] {
    const found = [file];
    const seen = new Set([...sent, file.name]);
    for (const next of found) {
      for (const name of next.dependencies) {
        const dependency = this.#files.get(name);
        if (!dependency || seen.has(name)) continue;
        seen.add(name);
        found.push(dependency);
      }
    }
    return found;
  }

  /** The descriptors of all files, each after what it imports. */
  inImportOrder(): Uint8Array[] {
    const ordered = new Set<DescribedFile>();
    const visit = (file: DescribedFile): void => {
      if (ordered.has(file)) return;
      // Imports cannot be circular, protoc and buf refuse them; a hostile set ends here at the second visit all the same.
      visiting.add(file);
      for (const name of file.dependencies) {
        const dependency = this.#files.get(name);
        if (dependency && !visiting.has(dependency)) visit(dependency);
      }
      ordered.add(file);
    };
    const visiting = new Set<DescribedFile>();
    for (const file of this.#files.values()) visit(file);
    return [...ordered].map(({ bytes }) => bytes);
  }

  #add(bytes: Uint8Array): void {
    const proto = fromBinary(FileDescriptorProtoSchema, bytes);
    const file: DescribedFile = { name: proto.name, bytes, dependencies: proto.dependency };
    this.#files.set(file.name, file);
    for (const symbol of declaredIn(proto)) this.#symbols.set(symbol, file);
    for (const { extendee, number } of extensionsIn(proto)) {
      this.#extensions.push({ extendee: extendee.replace(/^\./, ''), number, file });
    }
  }
}

/** A FileDescriptorSet of these files. */
export function descriptorSetOf(files: readonly Uint8Array[]): Uint8Array {
  const writer = new BinaryWriter();
  for (const bytes of files) writer.tag(SET_FILE_FIELD, WireType.LengthDelimited).bytes(bytes);
  return writer.finish();
}

function filesOf(descriptorSet: Uint8Array): Uint8Array[] {
  const files: Uint8Array[] = [];
  try {
    const reader = new BinaryReader(descriptorSet);
    while (reader.pos < reader.len) {
      const [field, type] = reader.tag();
      if (field === SET_FILE_FIELD && type === WireType.LengthDelimited) files.push(reader.bytes());
      else reader.skip(type, field);
    }
  } catch (error) {
    throw new MusterError('invalid', 'the descriptor set cannot be read: generate it again', { cause: error });
  }
  return files;
}

function declaredIn(file: FileDescriptorProto): string[] {
  const within = (scope: string, name: string): string => (scope === '' ? name : `${scope}.${name}`);
  const ofEnum = (scope: string, { name, value }: { name: string; value: { name: string }[] }): string[] => [
    within(scope, name),
    // An enum's values are declared beside it, not below it.
    ...value.map((each) => within(scope, each.name)),
  ];
  const ofMessage = (scope: string, message: DescriptorProto): string[] => {
    const name = within(scope, message.name);
    return [
      name,
      ...[...message.field, ...message.extension, ...message.oneofDecl].map((each) => within(name, each.name)),
      ...message.enumType.flatMap((each) => ofEnum(name, each)),
      ...message.nestedType.flatMap((each) => ofMessage(name, each)),
    ];
  };
  const scope = file.package;
  return [
    ...file.messageType.flatMap((each) => ofMessage(scope, each)),
    ...file.enumType.flatMap((each) => ofEnum(scope, each)),
    ...file.extension.map((each) => within(scope, each.name)),
    ...file.service.flatMap((service) => {
      const name = within(scope, service.name);
      return [name, ...service.method.map((method) => within(name, method.name))];
    }),
  ];
}

function extensionsIn(file: FileDescriptorProto): { extendee: string; number: number }[] {
  const nested = (message: DescriptorProto): { extendee: string; number: number }[] => [
    ...message.extension,
    ...message.nestedType.flatMap(nested),
  ];
  return [...file.extension, ...file.messageType.flatMap(nested)];
}
