import { hostname } from 'node:os';
import { systemClock, type Clock } from '../../kit/clock.js';
import { isCode, MusterError } from '../../kit/errors.js';
import { makeDirectory } from '../../kit/files.js';
import { MACHINE_NAME_PATTERN } from '../../kit/ids.js';
import { PORTS } from '../../model/places.js';
import { formatToken, parseToken } from '../../model/token.js';
import { formatAddress, parseAddress } from '../../rpc/addresses.js';
import { certificateHash, fetchCaByHash } from '../../rpc/ca-by-hash.js';
import { readCertificates } from '../../rpc/certificates.js';
import { openChannel } from '../../rpc/client.js';
import { fits, IdentityFiles, machineOf, type Membership } from './files.js';
import { certificateRequest, generateKey } from '../../rpc/certificate-request.js';
import { problemOf, validityOf } from './validity.js';
import { askToJoin, type JoinAnswer } from './wire.js';

export interface JoinOptions {
  /** The agent's data directory. */
  readonly data: string;
  /** Address of the center, `host` or `host:port`. */
  readonly center: string;
  /** What `muster token create` printed. */
  readonly token: string;
  /** Name of this machine, unique in the site. Default: its host name. */
  readonly name?: string;
  readonly labels?: Readonly<Record<string, string>>;
  /** Only for what the time is; waiting goes by the machine's own. */
  readonly clock?: Pick<Clock, 'now'>;
}

/**
 * Makes this machine a member of a site. The center proves itself by the CA hash in the token before the token is sent; the private key is
 * made here and never leaves. A machine that has joined before is joined anew; on failure it stays what it was.
 * @throws invalid (token, address, name); denied (the token is for a person or a queue, or for another name); unauthenticated (fake center, or the token is unknown, used or expired); exists (name taken);
 *   unavailable (no connection); precondition, reason OTHER_SITE, when the directory belongs to another site
 */
export async function joinSite(options: JoinOptions): Promise<Membership> {
  const { data, center, clock = systemClock, labels = {} } = options;
  const name = options.name ?? hostname();
  const token = parseToken(options.token);
  const { host, port } = addressOf(center);
  if (!MACHINE_NAME_PATTERN.test(name)) {
    throw new MusterError(
      'invalid',
      `"${name}" cannot be a machine's name: use letters, digits, dots and dashes (--name NAME)`,
    );
  }
  const { caPem, site } = await fetchCaByHash(host, port, token.caHash);
  await makeDirectory(data, 0o711);
  const files = new IdentityFiles(data);
  await assertNoOtherSite(files, { site, data });
  const key = await generateKey();
  await files.writeNextKey(key, 'join');
  const channel = openChannel({
    address: formatAddress({ kind: 'tcp', host, port }),
    tls: { caPem, site },
    peer: 'the center',
  });
  try {
    const request = certificateRequest(key);
    const question = { token: formatToken(token), request, name, labels, nowMs: clock.now() };
    const answer = await askToJoin(channel, question)
      .then((given) => {
        check(given, { key: key.reveal(), site, caHash: token.caHash });
        const problem = problemOf(validityOf(given.certificate), clock.now(), name);
        if (problem !== undefined) throw new MusterError('precondition', problem, { reason: 'CLOCK_SKEW' });
        return given;
      })
      .catch(async (error: unknown) => {
        await files.dropNextKey('join');
        throw error;
      });
    await files.writeCertificate(answer.certificate, answer.ca, 'join');
    const membership = {
      site,
      center: formatAddress({ kind: 'tcp', host, port }),
      machine: answer.machine,
      name,
      labels,
    };
    await files.writeMembership(membership);
    return membership;
  } catch (error) {
    throw isCode(error, 'exists') ? nameTaken(error, name) : error;
  } finally {
    channel.close();
  }
}

/** Assignments, configuration and counters in the directory are numbered by the site that gave them: another site's would be taken for old ones. */
async function assertNoOtherSite(files: IdentityFiles, to: { site: string; data: string }): Promise<void> {
  const from = await files.knownSite();
  if (from === undefined || from === to.site) return;
  throw new MusterError(
    'precondition',
    `${to.data} belongs to site ${from}, and this token is of site ${to.site}; nothing was changed. To move the machine, stop its agent and join with another --data directory`,
    { reason: 'OTHER_SITE' },
  );
}

function addressOf(center: string): { host: string; port: number } {
  const address = parseAddress(center, PORTS.centerGrpc);
  if (address.kind === 'tcp') return address;
  throw new MusterError('invalid', `"${center}" is a socket file: a machine joins its center at HOST:PORT`);
}

/** What was given must be ours, of the center we verified. */
function check(answer: JoinAnswer, expected: { key: string; site: string; caHash: string }): void {
  const sound =
    fits(answer.certificate, expected.key) &&
    machineOf(answer.certificate) === answer.machine &&
    answer.site === expected.site &&
    readCertificates(answer.ca).some((ca) => certificateHash(ca) === expected.caHash);
  if (!sound) {
    throw new MusterError(
      'internal',
      'the center answered with a certificate that is not for this machine; nothing was changed here',
      {
        reason: 'WRONG_CERTIFICATE',
      },
    );
  }
}

function nameTaken(error: MusterError, name: string): MusterError {
  const next = `choose another with --name, or, if this is that machine, make its token with \`muster token create --machine ${name}\``;
  return new MusterError('exists', `${error.message.replace(/\.$/, '')}; ${next}`, {
    reason: error.reason ?? 'MACHINE_NAME_TAKEN',
    cause: error,
  });
}
