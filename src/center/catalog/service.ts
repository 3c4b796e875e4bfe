import type { CenterService, ServiceDefinition } from '../../../generated/muster/v1/center.js';
import { describePrincipal } from '../../rpc/principal.js';
import type { Handlers } from '../../rpc/types.js';
import { toDate } from '../../wire/time.js';
import { pageOf } from '../../model/paging.js';
import type { Catalog, DefinitionView } from './catalog.js';

export type CatalogHandlers = Pick<
  Handlers<typeof CenterService>,
  'putService' | 'listServices' | 'getService' | 'removeService'
>;

function toWire({ definition, etag, machines }: DefinitionView): ServiceDefinition {
  return {
    service: definition.service,
    manifest: definition.manifest,
    selector: definition.selector,
    etag,
    updated: toDate(definition.updatedMs),
    updatedBy: definition.updatedBy,
    machines,
    generation: definition.generation,
  };
}

const FILE_CHARACTERS_MAX = 80;

/** A file name fit for messages: one line, not long. */
function shownName(file: string | undefined): string | undefined {
  const plain = file?.replaceAll(/\p{Cc}/gu, ' ').slice(0, FILE_CHARACTERS_MAX);
  return plain === '' ? undefined : plain;
}

/** Service definitions. */
export function catalogHandlers(catalog: Catalog): CatalogHandlers {
  return {
    putService: async ({ manifest, selector, etag, validateOnly, file }, { principal }) => {
      const order = { manifest, selector, etag, by: describePrincipal(principal), file: shownName(file) };
      if (!validateOnly) return toWire(await catalog.put(order));
      const service = catalog.validate(order);
      return { service, manifest, selector, etag, updated: undefined, updatedBy: '', machines: 0, generation: 0 };
    },
    listServices: ({ pageSize, pageToken }) => {
      const page = pageOf(
        catalog.list(),
        { size: pageSize, token: pageToken },
        { keyOf: ({ definition }) => definition.service, weightOf: ({ definition }) => definition.manifest.length },
      );
      return Promise.resolve({ services: page.items.map(toWire), nextPageToken: page.nextToken });
    },
    getService: (request) => Promise.resolve(toWire(catalog.require(request.service))),
    removeService: async (request, { principal }) => {
      await catalog.remove(request.service, describePrincipal(principal));
      return {};
    },
  };
}
