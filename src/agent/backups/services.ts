import type { Manifest } from '../../model/manifest.js';
import type { ServiceControl } from '../ports.js';
import type { BackedUpService, BackedUpServices } from './ports.js';

type Known = Pick<ServiceControl, 'list' | 'get' | 'onChange'> & {
  /** @throws not_found */
  manifest(service: string): Manifest;
};

/** The machine's services, as backups see them. */
export function backedUpServices(services: Known): BackedUpServices {
  const seen = (service: string): BackedUpService => {
    const { version, heldReleases = [] } = services.get(service);
    const { backup: policy } = services.manifest(service);
    return { service, version, policy, heldVersions: heldReleases.map((release) => release.version) };
  };
  return {
    list: () => services.list().map(({ service }) => seen(service)),
    get: seen,
    onChange: (listener) => services.onChange(listener),
  };
}
