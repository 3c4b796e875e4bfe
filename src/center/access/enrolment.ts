import type { Clock } from '../../kit/clock.js';
import { formatDuration } from '../../kit/durations.js';
import { MusterError } from '../../kit/errors.js';
import { NAME_PATTERN } from '../../kit/ids.js';
import type { Logger } from '../../kit/logger.js';
import { describePrincipal, type Principal } from '../../rpc/principal.js';
import { BACKDATE_MS, LEAF_LIFETIME_MS, keyOfRequest, type Authority, type LeafKey } from './authority.js';
import type { Attempts } from './attempts.js';
import type { TokenKind, TokenRecord, Tokens } from './tokens.js';

/** What makes a machine out of a joining one; `write` is given the change and makes it durable together with the token's use. */
export interface Registry {
  join(
    wish: { name: string; labels: Readonly<Record<string, string>>; again: boolean },
    token: TokenRecord,
  ): Promise<{ readonly id: string; readonly name: string }>;
  /** Makes a queue of a joining one, in the same way. */
  joinQueue(wish: { name: string; again: boolean }, token: TokenRecord): Promise<void>;
  /** Whether the machine has the service now. */
  hasService(machine: string, service: string): boolean;
}

export interface JoinOrder {
  readonly token: string;
  readonly certificateRequest: Uint8Array;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  /** The caller's wall clock; undefined when it does not say. */
  readonly nowMs: number | undefined;
  /** What the caller wants to become; undefined: whatever the token is for. */
  readonly kind: TokenKind | undefined;
  /** Where the caller is, for slowing down guesses. */
  readonly address: string;
}

export interface Credentials {
  readonly certificatePem: string;
  readonly caPem: string;
}

export interface Joined extends Credentials {
  readonly site: string;
  /** Empty for others than machines. */
  readonly machine: string;
}

export interface EnrolmentOptions {
  readonly authority: Authority;
  readonly tokens: Tokens;
  readonly registry: Registry;
  readonly attempts: Attempts;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly leafLifetimeMs?: number;
}

/** Gives out certificates: to who has a token, and to who has a certificate already. */
export class Enrolment {
  readonly #options: EnrolmentOptions;

  constructor(options: EnrolmentOptions) {
    this.#options = options;
  }

  /**
   * Exchanges a token for a certificate. The token is used up, durably, before anything is signed. Who gives no name gets the token's.
   * @throws as Tokens.check; denied with reason TOKEN_KIND or TOKEN_NAME; precondition with reason CLOCK_SKEW; exists; invalid; exhausted after too many failures
   */
  async join(asked: JoinOrder): Promise<Joined> {
    const { attempts, tokens, authority, logger } = this.#options;
    attempts.assertAllowed(asked.address);
    let token: TokenRecord;
    try {
      token = tokens.check(asked.token);
    } catch (error) {
      attempts.failed(asked.address);
      throw error;
    }
    assertKind(token, asked.kind);
    const order = asked.name === '' ? { ...asked, name: token.name } : asked;
    assertBoundName(token, order.name);
    assertClock(order.nowMs, this.#options.clock.now(), this.#lifetimeMs);
    const publicKey = await keyOfRequest(order.certificateRequest);
    const principal = await this.#admit(token, order);
    const credentials = await this.#sign(principal, publicKey);
    logger.info('joined', { principal: describePrincipal(principal), name: order.name, address: order.address });
    return { ...credentials, site: authority.site, machine: principal.kind === 'agent' ? principal.machine : '' };
  }

  /** A new certificate for the caller itself; with the same key or a new one. @throws invalid; denied */
  async renew(principal: Principal, certificateRequest: Uint8Array): Promise<Credentials> {
    const publicKey = await keyOfRequest(certificateRequest);
    return this.#sign(principal, publicKey);
  }

  /** A certificate for a service on the calling machine. @throws invalid; denied when the machine does not have the service */
  async signService(machine: string, service: string, certificateRequest: Uint8Array): Promise<Credentials> {
    if (!this.#options.registry.hasService(machine, service)) {
      throw new MusterError(
        'denied',
        `this machine has no service "${service}": a certificate is given only for services it runs`,
        {
          reason: 'SERVICE_NOT_HERE',
        },
      );
    }
    const publicKey = await keyOfRequest(certificateRequest);
    return this.#sign({ kind: 'service', machine, service }, publicKey);
  }

  get #lifetimeMs(): number {
    return this.#options.leafLifetimeMs ?? LEAF_LIFETIME_MS;
  }

  async #admit(token: TokenRecord, order: JoinOrder): Promise<Principal> {
    if (token.kind === 'agent') {
      const wish = {
        name: order.name,
        labels: { ...order.labels, ...token.labels },
        again: token.name !== '',
      };
      const machine = await this.#options.registry.join(wish, token);
      return { kind: 'agent', machine: machine.id };
    }
    if (!NAME_PATTERN.test(order.name)) {
      throw new MusterError(
        'invalid',
        `"${order.name}" cannot be a name: use up to 63 of a-z, 0-9 and "-", beginning and ending with a letter or digit`,
        {
          reason: 'NAME',
          fields: [{ field: 'name', description: 'a-z, 0-9 and "-"' }],
        },
      );
    }
    if (token.kind === 'queue') {
      await this.#options.registry.joinQueue({ name: order.name, again: token.name !== '' }, token);
    } else await this.#options.tokens.use(token, []);
    return { kind: token.kind, name: order.name };
  }

  async #sign(principal: Principal, publicKey: LeafKey): Promise<Credentials> {
    const { authority } = this.#options;
    const dnsNames = dnsNamesOf(principal);
    const leaf = await authority.sign({ publicKey, principal, dnsNames, lifetimeMs: this.#lifetimeMs });
    return { certificatePem: leaf.certificatePem, caPem: authority.caPem };
  }
}

/** Names that clients ask a server of this kind for. */
function dnsNamesOf(principal: Principal): string[] {
  switch (principal.kind) {
    case 'queue':
      return ['queue.muster', 'localhost'];
    case 'service':
      return ['service.muster', `${principal.service}.service.muster`, 'localhost'];
    case 'anonymous':
    case 'operator':
    case 'center':
    case 'agent':
      return [];
  }
}

/** Whom a token of each kind is for, and where it is used. */
const KINDS: Readonly<Record<TokenKind, { readonly whom: string; readonly use: string; readonly make: string }>> = {
  agent: { whom: 'a machine', use: 'muster agent join', make: 'muster token create' },
  operator: { whom: 'a person', use: 'muster login', make: 'muster token create --operator NAME' },
  queue: { whom: 'a queue', use: 'muster queue join', make: 'muster token create --queue' },
};

function assertKind(token: TokenRecord, asked: TokenKind | undefined): void {
  if (asked === undefined || asked === token.kind) return;
  const { whom, use } = KINDS[token.kind];
  throw new MusterError(
    'denied',
    `this token is for ${whom}: use "${use}", or make one for ${KINDS[asked].whom} with "${KINDS[asked].make}"; the token was not used`,
    { reason: 'TOKEN_KIND' },
  );
}

function assertBoundName(token: TokenRecord, name: string): void {
  if (token.name === '' || token.name === name) return;
  throw new MusterError(
    'denied',
    `this token is for "${token.name}" only: join with --name ${token.name}, or make another token`,
    {
      reason: 'TOKEN_NAME',
    },
  );
}

/** A caller whose clock is outside the certificate's life could not use it: said here, where both clocks are known. */
function assertClock(callerMs: number | undefined, nowMs: number, lifetimeMs: number): void {
  if (callerMs === undefined) return;
  if (callerMs >= nowMs - BACKDATE_MS && callerMs < nowMs + lifetimeMs) return;
  const off = formatDuration(Math.abs(callerMs - nowMs));
  const side = callerMs < nowMs ? 'behind' : 'ahead of';
  throw new MusterError(
    'precondition',
    `the clock of this machine says ${new Date(callerMs).toISOString()}, the center's says ${new Date(nowMs).toISOString()}: ` +
      `it is ${off} ${side} the center's, and a certificate would not be valid here. Set the clocks right, then try again; the token was not used`,
    { reason: 'CLOCK_SKEW' },
  );
}
