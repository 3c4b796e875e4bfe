import type { Clock } from '../../kit/clock.js';
import { sleep } from '../../kit/clock.js';
import type { Logger } from '../../kit/logger.js';
import { IdentityHolder, type Identity, type IdentitySource } from '../../rpc/identity.js';
import { newKey, type Authority, type Leaf } from './authority.js';

/** The DNS name clients ask a center for, whatever its address. */
export const CENTER_DNS_NAME = 'center.muster';
const CENTER_NAME = 'center';
/** The wall clock may jump, so it is looked at rather than slept by. */
const LOOK_INTERVAL_MS = 5000;

export interface CenterLeafOptions {
  readonly authority: Authority;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly lifetimeMs?: number;
}

/**
 * The center's own certificate. Its key is made anew at each start and each renewal and is never on disk: the CA beside it can always
 * sign another. Renewed at two thirds of its life; connections that are open live on.
 */
export class CenterLeaf implements IdentitySource {
  readonly #options: CenterLeafOptions;
  readonly #holder: IdentityHolder;
  #leaf: Leaf;

  private constructor(options: CenterLeafOptions, made: { leaf: Leaf; identity: Identity }) {
    this.#options = options;
    this.#leaf = made.leaf;
    this.#holder = new IdentityHolder(made.identity);
  }

  static async make(options: CenterLeafOptions): Promise<CenterLeaf> {
    return new CenterLeaf(options, await makeLeaf(options));
  }

  current(): Identity {
    return this.#holder.current();
  }

  onChange(listener: (identity: Identity) => void): () => void {
    return this.#holder.onChange(listener);
  }

  /** Renews until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, logger } = this.#options;
    while (!signal.aborted) {
      await sleep(clock, LOOK_INTERVAL_MS, signal);
      if (clock.now() < this.#renewAtMs()) continue;
      try {
        const made = await makeLeaf(this.#options);
        this.#leaf = made.leaf;
        this.#holder.renew(made.identity);
        logger.info("renewed the center's certificate", { expires: new Date(made.leaf.notAfterMs).toISOString() });
      } catch (error) {
        logger.error("could not renew the center's certificate, trying again", { error });
      }
    }
  }

  #renewAtMs(): number {
    const { notBeforeMs, notAfterMs } = this.#leaf;
    return notBeforeMs + ((notAfterMs - notBeforeMs) * 2) / 3;
  }
}

async function makeLeaf({ authority, lifetimeMs }: CenterLeafOptions): Promise<{ leaf: Leaf; identity: Identity }> {
  const { publicKey, privateKeyPem } = await newKey();
  const leaf = await authority.sign({
    publicKey,
    principal: { kind: 'center', name: CENTER_NAME },
    dnsNames: [CENTER_DNS_NAME, 'localhost'],
    ...(lifetimeMs === undefined ? {} : { lifetimeMs }),
  });
  return {
    leaf,
    identity: { certificatePem: leaf.certificatePem, privateKeyPem, caPem: authority.caPem, site: authority.site },
  };
}
