import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { CenterService } from '../../generated/muster/v1/center.js';
import { runCenter, type CenterReady } from '../../src/center/main.js';
import { silentLogger } from '../../src/kit/logger.js';
import { createClient, openChannel } from '../../src/rpc/client.js';
import type { Client } from '../../src/rpc/types.js';

export interface RealCenter {
  readonly ready: CenterReady;
  readonly operator: Client<typeof CenterService>;
  /** A new join token. */
  token(name?: string): Promise<string>;
  /** Ends it in good order. */
  stop(): Promise<void>;
}

export interface RealCenterOptions {
  readonly data?: string;
  /** Port on 127.0.0.1; a free one unless said. */
  readonly port?: number;
  readonly leafLifetimeMs?: number;
  readonly heartbeatMs?: number;
}

/** The real center in this process; it is stopped after the test. */
export async function realCenter(t: TestContext, options: RealCenterOptions = {}): Promise<RealCenter> {
  const { data = await mkdtemp(join(tmpdir(), 'muster-center-')), port = 0, ...rest } = options;
  const stopping = new AbortController();
  let ended: Promise<void> = Promise.resolve();
  const ready = await new Promise<CenterReady>((resolve, reject) => {
    ended = runCenter({
      data,
      listen: `127.0.0.1:${port}`,
      logger: silentLogger,
      signal: stopping.signal,
      onReady: resolve,
      ...rest,
    });
    ended.catch(reject);
  });
  const channel = openChannel({ address: `unix:${ready.adminSocket}` });
  const stop = async (): Promise<void> => {
    channel.close();
    stopping.abort();
    await ended;
  };
  t.after(async () => {
    await stop();
    if (options.data === undefined) await rm(data, { recursive: true, force: true });
  });
  const operator = createClient(CenterService, channel);
  const token = async (name = ''): Promise<string> =>
    (await operator.createToken({ kind: 'TOKEN_KIND_AGENT', lifetime: undefined, name, labels: {} })).token;
  return { ready, operator, token, stop };
}
