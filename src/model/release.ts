/** Releases, modules and what a deploy does, in the words of the contracts. Times are wall-clock milliseconds. */

export interface ModuleRef {
  readonly name: string;
  readonly version: string;
  /** SHA-256 of its archive, 64 hexadecimal digits. */
  readonly digest: string;
}

/** A release, as far as it takes to tell it from others. */
export interface ReleaseRef {
  readonly service: string;
  readonly version: string;
  /** SHA-256 of its archive, 64 hexadecimal digits. */
  readonly digest: string;
  readonly modules: readonly ModuleRef[];
  /** What the machine held when the release was verified there; 0: none. */
  readonly configRevision: number;
}

export interface Signature {
  /** Raw Ed25519 public key, 32 bytes, base64. */
  readonly publicKey: string;
  /** 64 bytes, base64. */
  readonly signature: string;
}

/** An archive that the center has. */
export interface Artifact {
  readonly digest: string;
  readonly sizeBytes: number;
  readonly signature: Signature;
  /** What it becomes, where the center says so: the room for it is looked for before anything is unpacked, and with more in it it is refused. */
  readonly unpacked?: { readonly files: number; readonly bytes: number } | undefined;
}

export type SignedKind = 'release' | 'module';

/** What a signature of a release or module is over. */
export function signedText(
  kind: SignedKind,
  { name, version, digest }: { readonly name: string; readonly version: string; readonly digest: string },
): string {
  return `muster-${kind}-v1\n${name}\n${version}\n${digest}\n`;
}

export interface DeployOrder {
  readonly release: ReleaseRef;
  readonly artifact: Artifact;
  /** In the order of release.modules. */
  readonly moduleArtifacts: readonly Artifact[];
}

export interface RollbackOrder {
  /** Which version to go back to; empty: the one that was last verified before the present one. */
  readonly version: string;
  /** That release as the center has it, for a machine that does not have it any more. */
  readonly release: DeployOrder | undefined;
}

export const DEPLOY_STEPS = [
  'FETCH',
  'BACKUP',
  'MODULES',
  'UNPACK',
  'INSTALL',
  'STOP',
  'SWITCH',
  'START',
  'VERIFY',
  'PRUNE',
] as const;
export type DeployStep = (typeof DEPLOY_STEPS)[number];

export const STEP_OUTCOMES = ['RUNNING', 'DONE', 'SKIPPED', 'FAILED'] as const;
export type StepOutcome = (typeof STEP_OUTCOMES)[number];

export interface DeployStepReport {
  readonly step: DeployStep;
  /** It put back what was there before. */
  readonly undo: boolean;
  readonly outcome: StepOutcome;
  readonly startedMs: number;
  readonly tookMs: number | undefined;
  readonly message: string;
  readonly exitCode?: number | undefined;
  readonly output?: string | undefined;
}

/** What a deploy or a rollback did on one machine, or has done so far. */
export interface DeployReport {
  readonly from: ReleaseRef | undefined;
  readonly to: ReleaseRef | undefined;
  readonly steps: readonly DeployStepReport[];
  /** What the service runs from now. */
  readonly current: ReleaseRef | undefined;
  readonly rolledBack: boolean;
  readonly verified: readonly string[];
  /** Id of the backup that was made; empty: none. */
  readonly backup: string;
  /** Undefined where the service did not run. */
  readonly downtimeMs: number | undefined;
}

export const ROLLBACK_SCOPES = ['TARGET', 'BATCH', 'ALL'] as const;
export type RollbackScope = (typeof ROLLBACK_SCOPES)[number];

/** Which release an operation is about. */
export interface DeployWish {
  readonly version: string;
  readonly onFailure: RollbackScope;
}
