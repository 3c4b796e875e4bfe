import { AgentService } from '../../../generated/muster/v1/agent.js';
import { sleep, type Clock } from '../../kit/clock.js';
import { MusterError } from '../../kit/errors.js';
import { randomBetween, type Random } from '../../kit/random.js';
import { Secret } from '../../kit/secret.js';
import { namedPrincipal, notAfterMs, notBeforeMs, readCertificates } from '../../rpc/certificates.js';
import { createClient, type Channel } from '../../rpc/client.js';
import { IdentityHolder, type Identity } from '../../rpc/identity.js';

/** The agent makes a new one when two thirds of the old one's life are over: asked soon after, it has it. */
const RENEW_AFTER = 0.7;
/** Between attempts, when the agent has no newer one yet or does not answer. */
const AGAIN_MS = { low: 30_000, high: 90_000 } as const;

interface Parts {
  readonly agent: Channel;
  readonly clock: Clock;
  readonly random: Random;
}

async function ask(agent: Channel): Promise<Identity> {
  const { certificate, privateKey, ca } = await createClient(AgentService, agent).getCertificate({});
  const [own] = readCertificates(certificate);
  if (!own) throw new MusterError('internal', 'the agent answered without a certificate');
  const { site } = namedPrincipal(own);
  return { certificatePem: certificate, privateKeyPem: new Secret(privateKey), caPem: ca, site };
}

/** When to ask for the next certificate, wall-clock milliseconds. */
function renewAtMs({ certificatePem }: Identity): number {
  const [own] = readCertificates(certificatePem);
  if (!own) return 0;
  const fromMs = notBeforeMs(own);
  return fromMs + (notAfterMs(own) - fromMs) * RENEW_AFTER;
}

/**
 * The identity of this program as the machine's agent gives it to services, renewed in time until the signal aborts.
 * @throws what the agent says; unavailable
 */
export async function serviceIdentity(parts: Parts, signal: AbortSignal): Promise<IdentityHolder> {
  const holder = new IdentityHolder(await ask(parts.agent));
  void keepFresh(holder, parts, signal);
  return holder;
}

async function keepFresh(holder: IdentityHolder, parts: Parts, signal: AbortSignal): Promise<void> {
  const { agent, clock, random } = parts;
  try {
    for (;;) {
      const dueMs = renewAtMs(holder.current()) - clock.now();
      await sleep(clock, dueMs > 0 ? dueMs : randomBetween(random, AGAIN_MS.low, AGAIN_MS.high), signal);
      const identity = await ask(agent).catch(() => undefined);
      if (identity && identity.certificatePem !== holder.current().certificatePem) holder.renew(identity);
    }
  } catch {
    // The signal has aborted: nobody needs it any more.
  }
}
