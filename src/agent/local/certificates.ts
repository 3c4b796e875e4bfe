import type { Clock } from '../../kit/clock.js';
import { MusterError } from '../../kit/errors.js';
import { KeyedMutex } from '../../kit/tasks.js';
import type { Secret } from '../../kit/secret.js';
import { fits } from '../../enrolment/files.js';
import { renewAtMs, validityOf, type Validity } from '../../enrolment/validity.js';
import type { SignedCertificate } from '../../enrolment/wire.js';
import { certificateRequest, generateKey } from '../../rpc/certificate-request.js';

export interface ServiceCertificate extends SignedCertificate {
  readonly privateKey: Secret;
  /** Wall-clock milliseconds. */
  readonly expiresMs: number;
}

export interface ServiceCertificatesOptions {
  /** Asks the center. @throws unavailable while there is no contact */
  readonly sign: (service: string, request: Uint8Array) => Promise<SignedCertificate>;
  readonly clock: Clock;
}

interface Cached {
  readonly certificate: ServiceCertificate;
  readonly validity: Validity;
  readonly renewAtMs: number;
}

/** Services of one machine are few; beyond this the oldest certificate is made anew when it is asked for. */
export const CERTIFICATES_CACHED_MAX = 1000;

/** The certificates of this machine's services: kept in memory until two thirds of their lifetime, used to the end when the center is away. */
export class ServiceCertificates {
  readonly #options: ServiceCertificatesOptions;
  readonly #cached = new Map<string, Cached>();
  readonly #turns = new KeyedMutex();

  constructor(options: ServiceCertificatesOptions) {
    this.#options = options;
  }

  /** @throws unavailable when there is none and the center is away; what the center refuses with */
  get(service: string): Promise<ServiceCertificate> {
    return this.#turns.run(service, async () => {
      const cached = this.#cached.get(service);
      const nowMs = this.#options.clock.now();
      if (cached && nowMs >= cached.validity.fromMs && nowMs < cached.renewAtMs) return cached.certificate;
      try {
        return await this.#make(service);
      } catch (error) {
        if (cached && nowMs < cached.validity.untilMs) return cached.certificate;
        throw error;
      }
    });
  }

  async #make(service: string): Promise<ServiceCertificate> {
    const privateKey = await generateKey();
    const { certificate, ca } = await this.#options.sign(service, certificateRequest(privateKey));
    if (!fits(certificate, privateKey.reveal())) {
      throw new MusterError('internal', 'the center answered with a certificate for another key');
    }
    const validity = validityOf(certificate);
    const made = { certificate, ca, privateKey, expiresMs: validity.untilMs };
    this.#cached.delete(service);
    this.#cached.set(service, {
      certificate: made,
      validity,
      renewAtMs: renewAtMs(validity, this.#options.clock.now(), 0),
    });
    const [oldest] = this.#cached.keys();
    if (oldest !== undefined && this.#cached.size > CERTIFICATES_CACHED_MAX) this.#cached.delete(oldest);
    return made;
  }
}
