import type {
  Artifact as WireArtifact,
  DeployOrder as WireDeployOrder,
  RollbackOrder as WireRollbackOrder,
} from '../../generated/muster/v1/center.js';
import type {
  DeployReport as WireReport,
  DeployStep as WireStep,
  DeployStepReport as WireStepReport,
  ModuleRef as WireModule,
  ReleaseRef as WireRelease,
} from '../../generated/muster/v1/types.js';
import { MusterError } from '../kit/errors.js';
import {
  DEPLOY_STEPS,
  STEP_OUTCOMES,
  type Artifact,
  type DeployOrder,
  type DeployReport,
  type DeployStep,
  type DeployStepReport,
  type ModuleRef,
  type ReleaseRef,
  type RollbackOrder,
} from '../model/release.js';
import { fromDate, fromDuration, toDate, toDuration } from './time.js';

/** Releases and deploys between the contracts and the domain. What a peer tells is kept and sent on: so much of it and no more. */
const NAME_CHARACTERS_MAX = 200;
const MESSAGE_CHARACTERS_MAX = 2000;
const OUTPUT_CHARACTERS_MAX = 4096;
const MODULES_MAX = 200;
const STEPS_MAX = 40;
const VERIFIED_MAX = 40;

const DIGEST = /^[0-9a-f]{64}$/;

function toWireModule({ name, version, digest }: ModuleRef): WireModule {
  return { name, version, digest };
}

function clipped(text: string): string {
  return text.slice(0, NAME_CHARACTERS_MAX);
}

export function toWireRelease(release: ReleaseRef): WireRelease {
  const { service, version, digest, modules, configRevision } = release;
  return { service, version, digest, modules: modules.map(toWireModule), configRevision };
}

export function fromWireRelease({ service, version, digest, modules, configRevision }: WireRelease): ReleaseRef {
  return {
    service: clipped(service),
    version: clipped(version),
    digest: clipped(digest),
    modules: modules.slice(0, MODULES_MAX).map((module) => ({
      name: clipped(module.name),
      version: clipped(module.version),
      digest: clipped(module.digest),
    })),
    configRevision,
  };
}

export function toWireArtifact({ digest, sizeBytes, signature, unpacked }: Artifact): WireArtifact {
  return {
    digest,
    sizeBytes,
    signature: {
      publicKey: Buffer.from(signature.publicKey, 'base64'),
      signature: Buffer.from(signature.signature, 'base64'),
    },
    files: unpacked?.files ?? 0,
    unpackedBytes: unpacked?.bytes ?? 0,
  };
}

function fromWireArtifact(artifact: WireArtifact | undefined): Artifact {
  if (!artifact?.signature || !DIGEST.test(artifact.digest)) {
    throw new MusterError('invalid', 'the order names an archive without its digest or signature');
  }
  const { digest, sizeBytes, signature, files, unpackedBytes } = artifact;
  return {
    digest,
    sizeBytes,
    signature: {
      publicKey: Buffer.from(signature.publicKey).toString('base64'),
      signature: Buffer.from(signature.signature).toString('base64'),
    },
    unpacked: files > 0 ? { files, bytes: unpackedBytes } : undefined,
  };
}

export function toWireDeployOrder({ release, artifact, moduleArtifacts }: DeployOrder): WireDeployOrder {
  return {
    release: toWireRelease(release),
    artifact: toWireArtifact(artifact),
    moduleArtifacts: moduleArtifacts.map(toWireArtifact),
  };
}

/** @throws invalid for an order that does not say all it must */
export function fromWireDeployOrder(order: WireDeployOrder | undefined): DeployOrder {
  if (!order?.release) throw new MusterError('invalid', 'the order does not say which release to deploy');
  const release = fromWireRelease(order.release);
  const moduleArtifacts = order.moduleArtifacts.map(fromWireArtifact);
  const artifact = fromWireArtifact(order.artifact);
  const fits =
    artifact.digest === release.digest &&
    moduleArtifacts.length === release.modules.length &&
    release.modules.every(({ digest }, index) => moduleArtifacts[index]?.digest === digest);
  if (!fits) throw new MusterError('invalid', 'the archives of the order are not those of its release');
  return { release, artifact, moduleArtifacts };
}

export function toWireRollbackOrder({ version, release }: RollbackOrder): WireRollbackOrder {
  return { version, release: release && toWireDeployOrder(release) };
}

/** @throws invalid as fromWireDeployOrder */
export function fromWireRollbackOrder(order: WireRollbackOrder | undefined): RollbackOrder {
  return {
    version: clipped(order?.version ?? ''),
    release: order?.release && fromWireDeployOrder(order.release),
  };
}

export function toWireStep(step: DeployStep | undefined): WireStep {
  return step === undefined ? 'DEPLOY_STEP_UNSPECIFIED' : `DEPLOY_STEP_${step}`;
}

export function fromWireStep(wire: WireStep): DeployStep | undefined {
  return DEPLOY_STEPS.find((step) => toWireStep(step) === wire);
}

function toWireStepReport(report: DeployStepReport): WireStepReport {
  return {
    step: toWireStep(report.step),
    undo: report.undo,
    outcome: `STEP_OUTCOME_${report.outcome}`,
    started: toDate(report.startedMs),
    took: report.tookMs === undefined ? undefined : toDuration(report.tookMs),
    message: report.message,
    exitCode: report.exitCode,
    output: report.output ?? '',
  };
}

function fromWireStepReport(wire: WireStepReport): DeployStepReport[] {
  const step = fromWireStep(wire.step);
  if (step === undefined) return [];
  return [
    {
      step,
      undo: wire.undo,
      outcome: STEP_OUTCOMES.find((outcome) => `STEP_OUTCOME_${outcome}` === wire.outcome) ?? 'RUNNING',
      startedMs: fromDate(wire.started) ?? 0,
      tookMs: fromDuration(wire.took),
      message: wire.message.slice(0, MESSAGE_CHARACTERS_MAX),
      ...(wire.exitCode === undefined ? {} : { exitCode: wire.exitCode }),
      ...(wire.output === '' ? {} : { output: wire.output.slice(-OUTPUT_CHARACTERS_MAX) }),
    },
  ];
}

export function toWireDeployReport(report: DeployReport): WireReport {
  return {
    from: report.from && toWireRelease(report.from),
    to: report.to && toWireRelease(report.to),
    steps: report.steps.map(toWireStepReport),
    current: report.current && toWireRelease(report.current),
    rolledBack: report.rolledBack,
    verified: [...report.verified],
    backup: report.backup,
    downtime: report.downtimeMs === undefined ? undefined : toDuration(report.downtimeMs),
  };
}

export function fromWireDeployReport(wire: WireReport): DeployReport {
  return {
    from: wire.from && fromWireRelease(wire.from),
    to: wire.to && fromWireRelease(wire.to),
    steps: wire.steps.slice(0, STEPS_MAX).flatMap(fromWireStepReport),
    current: wire.current && fromWireRelease(wire.current),
    rolledBack: wire.rolledBack,
    verified: wire.verified.slice(0, VERIFIED_MAX).map(clipped),
    backup: clipped(wire.backup),
    downtimeMs: fromDuration(wire.downtime),
  };
}
