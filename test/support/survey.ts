import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { readDescriptors } from '../../src/rpc/descriptor-set.js';
import { DescriptorIndex, descriptorSetOf } from '../../src/rpc/descriptors.js';
import { implement } from '../../src/rpc/server.js';

const run = promisify(execFile);
const buf = fileURLToPath(new URL('../../node_modules/.bin/buf', import.meta.url));

/** A contract with everything that is hard on reflection: maps, imports, nested types, oneofs, enums, well-known types. */
const FILES = {
  'test/survey/v1/subject.proto': `syntax = "proto3";
package test.survey.v1;
// What is asked about.
message Subject { string name = 1; }
`,
  'test/survey/v1/survey.proto': `syntax = "proto3";
package test.survey.v1;
import "google/protobuf/duration.proto";
import "google/protobuf/timestamp.proto";
import "test/survey/v1/subject.proto";
// Asks, and echoes what it was asked.
service Survey {
  // Answers with the question.
  rpc Ask(Question) returns (Question);
  // Answers each question as it comes.
  rpc AskAll(stream Question) returns (stream Question);
}
enum Kind {
  KIND_UNSPECIFIED = 0;
  // The thorough kind.
  KIND_DEEP = 1;
}
message Question {
  message Nested { string text = 1; }
  // Names and values.
  map<string, string> labels = 1;
  map<string, Nested> nested = 2;
  google.protobuf.Timestamp when = 3;
  google.protobuf.Duration every = 4;
  Kind kind = 5;
  oneof answer { bool yes = 6; int64 number = 7; }
  repeated Subject subjects = 8;
  optional uint32 weight = 9;
  bytes blob = 10;
}
`,
};

let built: Promise<Uint8Array> | undefined;

/** The descriptors of the contract, with comments, beside those of health and reflection. Built once per process. */
export function surveyDescriptors(): Promise<Uint8Array> {
  built ??= build();
  return built;
}

async function build(): Promise<Uint8Array> {
  const directory = await mkdtemp(join(tmpdir(), 'muster-survey-'));
  try {
    for (const [name, text] of Object.entries(FILES)) {
      await mkdir(dirname(join(directory, name)), { recursive: true });
      await writeFile(join(directory, name), text);
    }
    const out = join(directory, 'survey.bin');
    await run(buf, ['build', directory, '--as-file-descriptor-set', '-o', out]);
    const own = new DescriptorIndex(await readFile(out)).inImportOrder();
    const common = new DescriptorIndex(await readDescriptors());
    const grpc = [...common.files].filter((name) => name.startsWith('grpc/')).map((name) => common.file(name));
    return descriptorSetOf([...own, ...grpc.flatMap((file) => (file ? [file.bytes] : []))]);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

function bytes(value: Buffer): Buffer {
  return value;
}

const shape = {
  requestSerialize: bytes,
  requestDeserialize: bytes,
  responseSerialize: bytes,
  responseDeserialize: bytes,
};

/** Echoes messages as bytes, undecoded. */
export const surveyImplementation = implement(
  {
    ask: { ...shape, path: '/test.survey.v1.Survey/Ask', requestStream: false, responseStream: false },
    askAll: { ...shape, path: '/test.survey.v1.Survey/AskAll', requestStream: true, responseStream: true },
  } as const,
  {
    ask: (question) => Promise.resolve(question),
    askAll: async (stream) => {
      for await (const question of stream) await stream.send(question);
    },
  },
);
