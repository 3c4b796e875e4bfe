import type { Secret } from '../kit/secret.js';

/** What proves who we are to a peer, and whom we trust. */
export interface Identity {
  /** Our certificate, PEM. May be followed by its chain. */
  readonly certificatePem: string;
  /** The private key of the certificate, PEM. */
  readonly privateKeyPem: Secret;
  /** The site's CA certificates, PEM; several while the CA is being replaced. */
  readonly caPem: string;
  /** The site named in every certificate we accept. */
  readonly site: string;
}

/** An identity that may be renewed while connections are open: they live on, new ones use the new certificate. */
export interface IdentitySource {
  current(): Identity;
  /** Calls `listener` after each renewal; returns the way to stop. */
  onChange(listener: (identity: Identity) => void): () => void;
}

/** The simplest source: holds an identity and tells of each new one. */
export class IdentityHolder implements IdentitySource {
  #identity: Identity;
  readonly #listeners = new Set<(identity: Identity) => void>();

  constructor(identity: Identity) {
    this.#identity = identity;
  }

  current(): Identity {
    return this.#identity;
  }

  onChange(listener: (identity: Identity) => void): () => void {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
    };
  }

  /** Those listening now; for tests that nothing is left behind. */
  get listeners(): number {
    return this.#listeners.size;
  }

  renew(identity: Identity): void {
    this.#identity = identity;
    for (const listener of [...this.#listeners]) listener(identity);
  }
}
