import { MusterError } from '../../kit/errors.js';
import type { Action, InstanceReport } from '../../model/instance.js';
import type { Principal } from '../../rpc/principal.js';
import type { ServiceControl, ServicesChange } from '../ports.js';

export interface LocalServices {
  readonly instances: readonly InstanceReport[];
  readonly broken: ReturnType<ServiceControl['broken']>;
}

/**
 * What gRPC and HTTP both offer of this machine's services. People may name any service; a service sees and moves itself alone,
 * and may leave its name out.
 */
export class LocalApi {
  readonly #control: ServiceControl;

  constructor(control: ServiceControl) {
    this.#control = control;
  }

  list(principal: Principal): LocalServices {
    if (principal.kind !== 'service') return { instances: this.#control.list(), broken: this.#control.broken() };
    return { instances: this.#control.list().filter(({ service }) => service === principal.service), broken: [] };
  }

  /** @throws denied, invalid, not_found naming the nearest service */
  get(principal: Principal, service: string): InstanceReport {
    return this.#control.get(this.nameFor(principal, service));
  }

  /** Resolves when it is done. @throws as get; precondition with why it is not */
  async act(principal: Principal, action: Action, service: string): Promise<InstanceReport> {
    const { service: name } = this.get(principal, service);
    switch (action) {
      case 'START':
        return this.#control.start(name);
      case 'STOP':
        return this.#control.stop(name);
      case 'RESTART':
        return this.#control.restart(name);
    }
  }

  /** Milliseconds within which the next report is due. @throws as get; precondition when the service has no ttl ping */
  reportHealth(
    principal: Principal,
    service: string,
    said: { readonly health: 'PASSING' | 'WARNING' | 'CRITICAL'; readonly output: string },
  ): number {
    return this.#control.reportHealth(this.get(principal, service).service, said.health, said.output);
  }

  /** Changes of what the principal may see. Returns how to stop. */
  onChange(principal: Principal, listener: (change: ServicesChange) => void): () => void {
    return this.#control.onChange((change) => {
      if (principal.kind !== 'service' || principal.service === change.service) listener(change);
    });
  }

  /** The service that is meant. @throws denied, invalid */
  nameFor(principal: Principal, service: string): string {
    if (principal.kind === 'service') {
      if (service === '' || service === principal.service) return principal.service;
      throw new MusterError(
        'denied',
        `this is the socket of service "${principal.service}": it may look at and act on itself, not on "${service}"`,
        { reason: 'OTHER_SERVICE' },
      );
    }
    if (service !== '') return service;
    throw new MusterError('invalid', 'which service? Its name is missing', {
      reason: 'SERVICE_MISSING',
      fields: [{ field: 'service', description: 'must be the name of a service of this machine' }],
    });
  }
}
