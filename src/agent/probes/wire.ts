import { HealthCheckRequest, HealthCheckResponse } from '../../../generated/grpc/health/v1/health.js';

/** Messages of grpc.health.v1, as a probe needs them. */

/** The path of its Check call. */
export const HEALTH_CHECK_PATH = '/grpc.health.v1.Health/Check';

/** A request about one service of a server; an empty name asks for the whole server. */
export function healthRequest(service: string): Uint8Array {
  return HealthCheckRequest.encode({ service }).finish();
}

/**
 * The status an answer carries: `SERVING`, `NOT_SERVING`, `UNKNOWN`, ...
 * @throws Error when the bytes are no such answer
 */
export function healthStatus(bytes: Uint8Array): string {
  return HealthCheckResponse.decode(bytes).status;
}
