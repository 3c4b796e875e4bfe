import { MusterError } from '../kit/errors.js';

/** Who is calling or answering, as a certificate or a socket proves it; never taken from a field of a message. */
export type Principal =
  | { readonly kind: 'anonymous' }
  | { readonly kind: 'operator'; readonly name: string }
  | { readonly kind: 'center'; readonly name: string }
  | { readonly kind: 'agent'; readonly machine: string }
  | { readonly kind: 'queue'; readonly name: string }
  | { readonly kind: 'service'; readonly machine: string; readonly service: string };

export type PrincipalKind = Principal['kind'];

const SCHEME = 'muster://';

/** The URI name a certificate carries: `muster://SITE/agent/MACHINE`, `muster://SITE/service/MACHINE/SERVICE`, ... */
export function principalUri(site: string, principal: Principal): string {
  const path = segments(principal).map(encodeURIComponent).join('/');
  return `${SCHEME}${site}/${path}`;
}

/** Short text for logs and audit: `operator ann`, `service orders on m-7f3k`. */
export function describePrincipal(principal: Principal): string {
  switch (principal.kind) {
    case 'anonymous':
      return 'anonymous';
    case 'service':
      return `service ${principal.service} on ${principal.machine}`;
    case 'agent':
      return `agent of ${principal.machine}`;
    case 'operator':
    case 'center':
    case 'queue':
      return `${principal.kind} ${principal.name}`;
  }
}

/**
 * The principal and site a certificate's URI name says.
 * @throws unauthenticated when the text is not such a name
 */
export function parsePrincipalUri(uri: string): { site: string; principal: Principal } {
  const [site, kind, first, second, ...rest] = uri.startsWith(SCHEME)
    ? uri.slice(SCHEME.length).split('/').map(decoded)
    : [];
  const principal = rest.length === 0 ? fromSegments(kind, first, second) : undefined;
  if (!site || !principal) {
    throw new MusterError('unauthenticated', `the certificate's name "${uri}" is not one of this system's`, {
      reason: 'CERTIFICATE_NAME',
    });
  }
  return { site, principal };
}

/** The text of one segment; empty, which names nobody, where its percent-encoding is broken. */
function decoded(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    return '';
  }
}

function segments(principal: Principal): string[] {
  switch (principal.kind) {
    case 'anonymous':
      throw new MusterError('internal', 'an anonymous caller has no certificate name');
    case 'service':
      return ['service', principal.machine, principal.service];
    case 'agent':
      return ['agent', principal.machine];
    case 'operator':
    case 'center':
    case 'queue':
      return [principal.kind, principal.name];
  }
}

function fromSegments(kind: string | undefined, first?: string, second?: string): Principal | undefined {
  if (!first) return undefined;
  if (kind === 'service') return second ? { kind, machine: first, service: second } : undefined;
  if (second !== undefined) return undefined;
  if (kind === 'agent') return { kind, machine: first };
  if (kind === 'operator' || kind === 'center' || kind === 'queue') return { kind, name: first };
  return undefined;
}
