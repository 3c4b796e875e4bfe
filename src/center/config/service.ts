import type {
  Adoption,
  ConfigService,
  Document,
  Scope,
  Snapshot,
  WatchRequest,
  WatchResponse,
} from '../../../generated/muster/v1/config.js';
import { watchSnapshots } from '../../config/watching.js';
import { toWireSnapshot } from '../../config/wire.js';
import type { Clock } from '../../kit/clock.js';
import { MusterError } from '../../kit/errors.js';
import { describePrincipal } from '../../rpc/principal.js';
import type { CallContext, Handlers } from '../../rpc/types.js';
import { toDate } from '../../wire/time.js';
import type { FleetDirectory } from '../ports.js';
import type { AdoptionFact, Configs, ScopeName } from './configs.js';
import { etagOf, type ConfigDocument } from './documents.js';

const PAGE_DEFAULT = 50;
const PAGE_MAX = 500;

interface Parts {
  readonly configs: Configs;
  readonly fleet: FleetDirectory;
  readonly clock: Clock;
  /** Whether the machine has the service: it is assigned to it, or its agent says so. */
  readonly hasService: (machine: string, service: string) => boolean;
}

/** Config on the center: agents get, operators publish. */
export function configHandlers(parts: Parts): Handlers<typeof ConfigService> {
  const { configs, fleet } = parts;
  const toDocument = (document: ConfigDocument): Document => toWireDocument(document, fleet);
  return {
    get: (request, context) => Promise.resolve().then(() => snapshotOf(configs, resolvePlace(parts, request, context))),
    watch: (request, context) => watch(parts, request, context),
    async reportApplied({ service, revision, error }, context) {
      const { principal } = context;
      if (principal.kind !== 'agent') {
        throw new MusterError('denied', 'only agents report to the center what their services applied');
      }
      await configs.reportApplied(resolvePlace(parts, { service, machine: '' }, context), { revision, error });
      return {};
    },
    getDocument: async ({ scope, revision }) => toDocument(await configs.document(scopeOf(scope), revision)),
    validate: ({ scope, text }) =>
      Promise.resolve().then(() => ({ values: { ...configs.validate(scopeOf(scope), text) } })),
    async publish({ scope, text, etag, comment, requestId }, { principal }) {
      const by = describePrincipal(principal);
      return toDocument(await configs.publish({ scope: scopeOf(scope), text, etag, comment, requestId, by }));
    },
    async listRevisions({ service, pageSize, pageToken }) {
      const limit = pageSize > 0 ? Math.min(pageSize, PAGE_MAX) : PAGE_DEFAULT;
      const { documents, next } = await configs.revisions(service, { limit, before: parseToken(pageToken) });
      return { revisions: documents.map(toDocument), nextPageToken: next === undefined ? '' : String(next) };
    },
    getAdoption: ({ service }) =>
      Promise.resolve().then(() => ({
        machines: configs.adoption(service).map(toAdoption),
        revision: configs.newest(service),
      })),
  };
}

function watch(parts: Parts, request: WatchRequest, context: CallContext): AsyncGenerator<WatchResponse> {
  const { configs, clock } = parts;
  const place = resolvePlace(parts, request, context);
  return watchSnapshots({
    clock,
    signal: context.signal,
    hash: request.hash,
    read: () => snapshotOf(configs, place),
    onChange: (listener) =>
      configs.onChange((service) => {
        if (service === place.service) listener();
      }),
  });
}

function snapshotOf(configs: Configs, { service, machine }: ScopeName): Snapshot {
  return toWireSnapshot(service, configs.merged(service, machine), false);
}

/**
 * Which configuration is asked for: an agent's machine is the one its certificate names, and it sees only what its services have.
 * @throws invalid; not_found; denied with reason SERVICE_NOT_HERE
 */
function resolvePlace(
  { fleet, hasService }: Parts,
  { service, machine }: ScopeName,
  { principal }: CallContext,
): ScopeName {
  if (service === '') throw new MusterError('invalid', 'name the service', { reason: 'SERVICE_NEEDED' });
  if (principal.kind === 'agent') {
    if (hasService(principal.machine, service)) return { service, machine: principal.machine };
    throw new MusterError(
      'denied',
      `this machine has no service "${service}": a configuration is given only to machines that have its service`,
      { reason: 'SERVICE_NOT_HERE' },
    );
  }
  return { service, machine: machine === '' ? '' : fleet.machine(machine).id };
}

function scopeOf(scope: Scope | undefined): ScopeName {
  return { service: scope?.service ?? '', machine: scope?.machine ?? '' };
}

function parseToken(token: string): number | undefined {
  if (token === '') return undefined;
  if (/^\d{1,12}$/.test(token)) return Number(token);
  throw new MusterError('invalid', 'page_token is not one this call has given: leave it empty for the first page');
}

function toWireDocument(document: ConfigDocument, fleet: FleetDirectory): Document {
  const { service, machine, text, revision, publishedMs, publishedBy, comment } = document;
  return {
    scope: { service, machine: fleet.findMachine(machine)?.name ?? machine },
    text,
    revision,
    etag: etagOf(document),
    published: revision === 0 ? undefined : toDate(publishedMs),
    publishedBy,
    comment,
  };
}

function toAdoption({ reportedMs, ...rest }: AdoptionFact): Adoption {
  return { ...rest, reported: toDate(reportedMs) };
}
