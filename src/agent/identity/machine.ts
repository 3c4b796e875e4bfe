import { IdentityFiles } from '../../enrolment/files.js';
import type { MemberIdentity } from '../../enrolment/identity.js';
import type { Membership, Party } from '../../enrolment/party.js';

/** What the machine knows of the site it belongs to. */
export interface MachineMembership extends Membership {
  /** The machine's id. */
  readonly machine: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** Who this machine is. */
export type MachineIdentity = MemberIdentity<MachineMembership>;

/** A machine, among those who join a site. */
export const MACHINE: Party<MachineMembership> = {
  kind: 'agent',
  file: 'agent.json',
  directoryMode: 0o711,
  fields: 'site, center, machine or name',
  read: (membership, { machine, labels }) =>
    typeof machine === 'string' ? { ...membership, machine, labels: textsOf(labels) } : undefined,
  owns: ({ machine }, principal) => principal.kind === 'agent' && principal.machine === machine,
  words: {
    whose: 'this machine',
    noun: 'machine',
    notJoined: 'this machine has not joined a site: run `muster agent join CENTER --token TOKEN` on it',
    then: 'the agent then connects by itself',
    token: (name) => `muster token create --machine ${name}`,
    meanwhile: 'services keep running meanwhile',
    stays: 'services and their data stay',
    move: 'To move the machine, stop its agent and join with another --data directory',
  },
};

/** The machine's identity in the agent's data directory: `identity/` and `agent.json`. */
export function machineFiles(data: string): IdentityFiles<MachineMembership> {
  return new IdentityFiles(MACHINE, data);
}

function textsOf(value: unknown): Record<string, string> {
  const entries = typeof value === 'object' && value !== null ? Object.entries(value) : [];
  return Object.fromEntries(entries.filter((entry): entry is [string, string] => typeof entry[1] === 'string'));
}
