import {
  TokenKind as WireTokenKind,
  type CenterService,
  type CreateTokenRequest,
  type CreateTokenResponse,
  type Token,
} from '../../../generated/muster/v1/center.js';
import { MusterError } from '../../kit/errors.js';
import { assertLabels } from '../../model/selector.js';
import { describePrincipal } from '../../rpc/principal.js';
import type { CallContext, Handlers } from '../../rpc/types.js';
import { fromDate, fromDuration, toDate } from '../../wire/time.js';
import { assertMachineName } from '../fleet/machines.js';
import { callingMachine } from '../principals.js';
import type { Enrolment } from './enrolment.js';
import type { TokenKind, TokenOrder, TokenRecord, Tokens } from './tokens.js';

export type AccessHandlers = Pick<
  Handlers<typeof CenterService>,
  'join' | 'renew' | 'signServiceCertificate' | 'createToken' | 'listTokens' | 'revokeToken'
>;

export interface AccessParts {
  readonly enrolment: Enrolment;
  readonly tokens: Tokens;
  /** HOST:PORT under which machines reach this center, for the line to paste. */
  readonly advertise: () => string;
}

const WIRE_KINDS = {
  agent: WireTokenKind.AGENT,
  operator: WireTokenKind.OPERATOR,
  queue: WireTokenKind.QUEUE,
} as const satisfies Record<TokenKind, WireTokenKind>;

function fromWireKind(kind: WireTokenKind): TokenKind {
  switch (kind) {
    case WireTokenKind.UNSPECIFIED:
    case WireTokenKind.AGENT:
      return 'agent';
    case WireTokenKind.OPERATOR:
      return 'operator';
    case WireTokenKind.QUEUE:
      return 'queue';
    case WireTokenKind.UNRECOGNIZED:
      throw new MusterError('invalid', 'kind must be TOKEN_KIND_AGENT, TOKEN_KIND_OPERATOR or TOKEN_KIND_QUEUE');
  }
}

/** Unspecified is whatever the token is for; of a caller that is newer than this center, that is all there is. */
function wantedKind(kind: WireTokenKind): TokenKind | undefined {
  const known = kind !== WireTokenKind.UNSPECIFIED && kind !== WireTokenKind.UNRECOGNIZED;
  return known ? fromWireKind(kind) : undefined;
}

function toWireToken(record: TokenRecord): Token {
  return {
    id: record.id,
    kind: WIRE_KINDS[record.kind],
    name: record.name,
    created: toDate(record.createdMs),
    expires: toDate(record.expiresMs),
    createdBy: record.createdBy,
  };
}

/** The address without its port. */
function hostOf(peer: string): string {
  return peer.replace(/:\d+$/, '');
}

/** What to paste where the token is to be used. A person's name is in the token alone: `muster login` has no other. */
export function joinLine(kind: TokenKind, address: string, details: { token: string; name: string }): string {
  const token = `${address} --token ${details.token}`;
  const name = details.name === '' ? '' : ` --name ${details.name}`;
  switch (kind) {
    case 'agent':
      return `muster agent join ${token}${name} --run`;
    case 'operator':
      return `muster login ${token}`;
    case 'queue':
      return `muster queue join ${token}${name} --run`;
  }
}

function orderOf(request: CreateTokenRequest, context: CallContext): TokenOrder {
  const kind = fromWireKind(request.kind);
  if (request.name !== '' && kind === 'agent') assertMachineName(request.name);
  assertLabels(request.labels);
  const createdBy = describePrincipal(context.principal);
  return { kind, lifetimeMs: fromDuration(request.lifetime), name: request.name, labels: request.labels, createdBy };
}

/** Join, certificates and tokens. */
export function accessHandlers({ enrolment, tokens, advertise }: AccessParts): AccessHandlers {
  return {
    join: async (request, context) => {
      const joined = await enrolment.join({
        token: request.token,
        certificateRequest: request.certificateRequest,
        name: request.name,
        labels: request.labels,
        nowMs: fromDate(request.now),
        kind: request.kind === undefined ? undefined : wantedKind(request.kind),
        address: hostOf(context.peer),
      });
      return { certificate: joined.certificatePem, ca: joined.caPem, site: joined.site, machine: joined.machine };
    },
    renew: async (request, context) => {
      const { certificatePem, caPem } = await enrolment.renew(context.principal, request.certificateRequest);
      return { certificate: certificatePem, ca: caPem };
    },
    signServiceCertificate: async (request, context) => {
      const machine = callingMachine(context.principal);
      const { certificatePem, caPem } = await enrolment.signService(
        machine,
        request.service,
        request.certificateRequest,
      );
      return { certificate: certificatePem, ca: caPem };
    },
    createToken: async (request, context): Promise<CreateTokenResponse> => {
      const order = orderOf(request, context);
      const { text, record } = await tokens.create(order);
      const token = text.reveal();
      const command = joinLine(order.kind, advertise(), { token, name: order.name });
      return { token, expires: toDate(record.expiresMs), command, id: record.id };
    },
    listTokens: () => Promise.resolve({ tokens: tokens.list().map(toWireToken) }),
    revokeToken: async (request) => {
      await tokens.revoke(request.id);
      return {};
    },
  };
}
