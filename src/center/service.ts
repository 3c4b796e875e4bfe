import { CenterService } from '../../generated/muster/v1/center.js';
import { ConfigService } from '../../generated/muster/v1/config.js';
import { CounterService } from '../../generated/muster/v1/counter.js';
import { accessHandlers, type AccessParts } from './access/service.js';
import { alertHandlers } from './alerts/service.js';
import { backupHandlers, type BackupParts } from './backups/service.js';
import { catalogHandlers } from './catalog/service.js';
import { commandHandlers, type CommandParts } from './commands/service.js';
import { fleetHandlers, type FleetParts } from './fleet/service.js';
import { gatewayHandlers } from './gateway/service.js';
import { operationHandlers, type OperationParts } from './operations/service.js';
import { outputHandlers, type UploadedBatch } from './output/service.js';
import { releaseHandlers, type ReleaseParts } from './releases/service.js';
import { Outputs } from './output/outputs.js';
import { Tails } from './output/tails.js';
import { queueHandlers, type QueueParts } from './queues/service.js';
import { statusHandlers, type StatusParts } from './status-service.js';
import type { Catalog } from './catalog/catalog.js';
import type { Gateway } from './gateway/gateway.js';
import type { Clock } from '../kit/clock.js';
import { sendsPieces } from '../rpc/pieces.js';
import { boundedRequests } from '../rpc/raw.js';
import { implement, type Implementation } from '../rpc/server.js';
import type { Handlers } from '../rpc/types.js';
import type { Configs } from './config/configs.js';
import { configHandlers } from './config/service.js';
import type { Counters } from './counters/counters.js';
import { counterHandlers } from './counters/service.js';

/** Lines and hits on their way from agents to operators. */
export type LogOutputs = Outputs<UploadedBatch>;
export const LogOutputs = Outputs<UploadedBatch>;
export type LogTails = Tails<UploadedBatch>;
export const LogTails = Tails<UploadedBatch>;

export type CenterParts = AccessParts &
  FleetParts &
  CommandParts &
  StatusParts &
  QueueParts &
  OperationParts &
  ReleaseParts &
  BackupParts & {
    readonly catalog: Catalog;
    readonly gateway: Gateway;
    readonly outputs: LogOutputs;
    readonly tails: LogTails;
    /** Whether the machine shall have the service, or its agent says that it has. */
    readonly hasService: (machine: string, service: string) => boolean;
  };

/** All of `muster.v1.Center`. */
export function centerHandlers(parts: CenterParts): Handlers<typeof CenterService> {
  return {
    ...accessHandlers(parts),
    ...gatewayHandlers(parts.gateway),
    ...fleetHandlers(parts),
    ...queueHandlers(parts),
    ...catalogHandlers(parts.catalog),
    ...alertHandlers(parts.alerts),
    ...commandHandlers(parts),
    ...operationHandlers(parts),
    ...outputHandlers(parts),
    ...statusHandlers(parts),
    ...releaseHandlers(parts),
    ...backupHandlers(parts),
  };
}

export interface ServedParts {
  readonly parts: CenterParts;
  readonly configs: Configs;
  readonly counters: Counters;
  readonly clock: Clock;
}

/** Agents send lines and hits in batches of at most 256 KiB of text. */
const UPLOAD_BOUNDS = { bytesMax: 1024 * 1024, fieldsMax: 2048 };

/** Archives and backups come in pieces of at most 1 MiB. */
const ARTIFACT_BOUNDS = { bytesMax: 1024 * 1024 + 1024, fieldsMax: 16 };

const BOUNDED_CENTER = {
  ...CenterService,
  uploadArtifact: boundedRequests(CenterService.uploadArtifact, ARTIFACT_BOUNDS),
  uploadBackup: boundedRequests(CenterService.uploadBackup, ARTIFACT_BOUNDS),
  uploadOutput: boundedRequests(CenterService.uploadOutput, UPLOAD_BOUNDS),
  fetchArtifact: sendsPieces(CenterService.fetchArtifact),
  fetchBackup: sendsPieces(CenterService.fetchBackup),
};

/** Every service the center serves, beside health and reflection. */
export function centerImplementations({ parts, configs, counters, clock }: ServedParts): Implementation[] {
  return [
    implement(BOUNDED_CENTER, centerHandlers(parts)),
    implement(ConfigService, configHandlers({ configs, fleet: parts.directory, clock, hasService: parts.hasService })),
    implement(CounterService, counterHandlers(counters, clock)),
  ];
}
