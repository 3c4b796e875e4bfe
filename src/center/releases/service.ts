import {
  Release,
  type CenterService,
  type FetchArtifactResponse,
  type Module,
  type UploadArtifactRequest,
} from '../../../generated/muster/v1/center.js';
import { withTimeout, type Clock } from '../../kit/clock.js';
import { MusterError } from '../../kit/errors.js';
import { pageOf } from '../../model/paging.js';
import { describePrincipal, type Principal } from '../../rpc/principal.js';
import { untilAborted } from '../../rpc/streams.js';
import type { Handlers } from '../../rpc/types.js';
import { callingMachine } from '../principals.js';
import { assertDigest } from './archives.js';
import type { PutOrder } from './publishing.js';
import type { ModuleRecord, ReleaseRecord } from './release.js';
import type { Shelf } from './shelf.js';
import type { Usage } from './usage.js';
import { fromWireSignature, toWireKey, toWireModule, toWireRelease } from './wire.js';

type ReleaseHandlers = Pick<
  Handlers<typeof CenterService>,
  | 'enrollSigningKey'
  | 'listSigningKeys'
  | 'revokeSigningKey'
  | 'getUpload'
  | 'uploadArtifact'
  | 'putRelease'
  | 'listReleases'
  | 'getRelease'
  | 'removeRelease'
  | 'putModule'
  | 'listModules'
  | 'getModule'
  | 'removeModule'
  | 'fetchArtifact'
>;

export interface ReleaseParts {
  readonly shelf: Shelf;
  readonly clock: Clock;
}

const NOTE_MAX = 1000;
/** Digits of a record's number in a page token, so that text order is number order. */
const NUMBER_DIGITS = 16;
/** An upload that sends nothing for so long is ended: what came is kept. */
const UPLOAD_SILENCE_MS = 60_000;
/** Releases named as pinning a module. */
const PINNED_BY_MAX = 100;

/** Releases, modules, their archives and the keys that sign them. */
export function releaseHandlers(parts: ReleaseParts): ReleaseHandlers {
  const { shelf } = parts;
  return {
    ...keyHandlers(shelf),
    ...archiveHandlers(parts),
    ...recordHandlers(shelf),
    ...moduleHandlers(shelf),
  };
}

function keyHandlers({
  keys,
}: Shelf): Pick<ReleaseHandlers, 'enrollSigningKey' | 'listSigningKeys' | 'revokeSigningKey'> {
  return {
    enrollSigningKey: async ({ publicKey }, { principal }) =>
      toWireKey(await keys.enroll(operatorName(principal), Buffer.from(publicKey).toString('base64'))),
    listSigningKeys: () => Promise.resolve({ keys: keys.list().map(toWireKey) }),
    revokeSigningKey: async ({ id }, { principal }) => toWireKey(await keys.revoke(id, describePrincipal(principal))),
  };
}

/** @throws denied */
function operatorName(principal: Principal): string {
  if (principal.kind === 'operator') return principal.name;
  throw new MusterError('denied', `${describePrincipal(principal)} is not an operator`, { reason: 'NOT_AN_OPERATOR' });
}

function archiveHandlers({
  shelf: { archives, releases },
  clock,
}: ReleaseParts): Pick<ReleaseHandlers, 'getUpload' | 'uploadArtifact' | 'fetchArtifact'> {
  return {
    getUpload: ({ digest }) => Promise.resolve(archives.uploaded(digest)),
    uploadArtifact: async (requests, { signal }) => {
      const frames = requests[Symbol.asyncIterator]();
      const next = (): Promise<IteratorResult<UploadArtifactRequest>> => soon(frames, { clock, signal });
      const first = await next();
      if (first.done) {
        throw new MusterError('invalid', 'the first message must name the archive', { reason: 'DIGEST' });
      }
      const { digest, sizeBytes, offset } = first.value;
      return archives.receive({ digest, sizeBytes, offset }, chunksOf(first.value, next));
    },
    fetchArtifact: async function* ({ digest, offset }, { principal }): AsyncGenerator<FetchArtifactResponse> {
      callingMachine(principal);
      assertDigest(digest);
      let { sizeBytes } = releases.requireArtifact(digest);
      const empty = Buffer.alloc(0);
      // Also where nothing is left to send.
      if (offset === sizeBytes) yield { sizeBytes, data: empty };
      for await (const data of archives.read(digest, offset)) {
        yield { sizeBytes, data: Buffer.from(data.buffer, data.byteOffset, data.length) };
        sizeBytes = 0;
      }
    },
  };
}

/** The next message of an upload. @throws deadline after silence; the signal's reason */
function soon(
  frames: AsyncIterator<UploadArtifactRequest>,
  { clock, signal: parent }: { readonly clock: Clock; readonly signal: AbortSignal },
): Promise<IteratorResult<UploadArtifactRequest>> {
  const reason = (): Error =>
    new MusterError('deadline', 'nothing came for a minute: go on with the upload', { reason: 'UPLOAD_SILENT' });
  return withTimeout(clock, { timeoutMs: UPLOAD_SILENCE_MS, reason, parent }, (signal) =>
    untilAborted(frames.next(), signal),
  );
}

/** The bytes of an upload, each message asked for once the one before was taken. @throws as `next` */
async function* chunksOf(
  first: UploadArtifactRequest,
  next: () => Promise<IteratorResult<UploadArtifactRequest>>,
): AsyncGenerator<Uint8Array> {
  let message: IteratorResult<UploadArtifactRequest> = { done: false, value: first };
  while (!message.done) {
    if (message.value.data.length > 0) yield message.value.data;
    message = await next();
  }
}

interface WirePut {
  readonly digest: string;
  readonly signature?: Parameters<typeof fromWireSignature>[0];
  readonly note: string;
  readonly validateOnly: boolean;
}

/** @throws invalid */
function putOrder({ digest, signature, note, validateOnly }: WirePut, principal: Principal): PutOrder {
  assertDigest(digest);
  const by = describePrincipal(principal);
  return { digest, signature: fromWireSignature(signature), note: note.slice(0, NOTE_MAX), by, validateOnly };
}

function numberKey({ number }: { readonly number: number }): string {
  return String(number).padStart(NUMBER_DIGITS, '0');
}

function recordHandlers({
  releases,
  publishing,
  archives,
  usage,
}: Shelf): Pick<ReleaseHandlers, 'putRelease' | 'listReleases' | 'getRelease' | 'removeRelease'> {
  const toWire = (record: ReleaseRecord, used: Usage): Release =>
    toWireRelease(record, {
      machines: used.running(record.artifact.digest).length,
      machinesHolding: used.holding(record.artifact.digest).length,
      problem: archives.problemWith(record.artifact) ?? '',
    });
  return {
    putRelease: async (request, { principal }) =>
      toWire(await publishing.putRelease(putOrder(request, principal)), usage()),
    listReleases: ({ service, pageSize, pageToken }) => {
      if (service !== '') releases.requireService(service);
      const used = usage();
      const short = (record: ReleaseRecord): Release => ({ ...toWire(record, used), manifest: '' });
      const page = pageOf(
        releases.list(service === '' ? undefined : service),
        { size: pageSize, token: pageToken },
        { keyOf: numberKey, reverse: true, weightOf: (record) => Release.encode(short(record)).finish().length },
      );
      return Promise.resolve({ releases: page.items.map(short), nextPageToken: page.nextToken });
    },
    getRelease: ({ service, version }) => Promise.resolve(toWire(releases.require(service, version), usage())),
    removeRelease: async ({ service, version }) => {
      await publishing.removeRelease(service, version);
      return {};
    },
  };
}

function moduleHandlers({
  releases,
  publishing,
  archives,
}: Shelf): Pick<ReleaseHandlers, 'putModule' | 'listModules' | 'getModule' | 'removeModule'> {
  const toWire = (record: ModuleRecord): Module =>
    toWireModule(record, {
      pinnedBy: releases
        .pinnedBy(record.name, record.version)
        .slice(0, PINNED_BY_MAX)
        .map(({ service, version }) => `${service} ${version}`),
      problem: archives.problemWith(record.artifact) ?? '',
    });
  return {
    putModule: async (request, { principal }) => toWire(await publishing.putModule(putOrder(request, principal))),
    listModules: ({ name, pageSize, pageToken }) => {
      if (name !== '') releases.requireModuleName(name);
      const page = pageOf(
        releases.listModules(name === '' ? undefined : name),
        { size: pageSize, token: pageToken },
        { keyOf: numberKey, reverse: true, weightOf: () => MODULE_BYTES },
      );
      return Promise.resolve({ modules: page.items.map(toWire), nextPageToken: page.nextToken });
    },
    getModule: ({ name, version }) => Promise.resolve(toWire(releases.requireModule(name, version))),
    removeModule: async ({ name, version }) => {
      await publishing.removeModule(name, version);
      return {};
    },
  };
}

/** At most about so many bytes a module takes in an answer: its note and who pins it. */
const MODULE_BYTES = 16 * 1024;
