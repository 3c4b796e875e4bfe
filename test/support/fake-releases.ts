import type { ReleaseSource } from '../../src/center/operations/work.js';
import { MusterError } from '../../src/kit/errors.js';
import { didYouMean } from '../../src/kit/suggest.js';
import type { Artifact, DeployOrder, ModuleRef, ReleaseRef } from '../../src/model/release.js';

/** The digest that everything called so has in tests. */
export function digestOf(...names: readonly string[]): string {
  return Buffer.from(names.join('/')).toString('hex').padEnd(64, '0').slice(0, 64);
}

function artifactOf(digest: string): Artifact {
  return { digest, sizeBytes: 100, signature: { publicKey: 'a2V5', signature: 'c2ln' } };
}

export function releaseRef(
  service: string,
  version: string,
  modules: Readonly<Record<string, string>> = {},
): ReleaseRef {
  const pins = Object.entries(modules).map(([name, pin]): ModuleRef => ({
    name,
    version: pin,
    digest: digestOf(name, pin),
  }));
  return { service, version, digest: digestOf(service, version), modules: pins, configRevision: 0 };
}

/** Releases as tests say they are. */
export class FakeReleases implements ReleaseSource {
  readonly #all = new Map<string, { readonly order: DeployOrder; readonly manifest: string }>();
  /** Why nothing can be sent; undefined: all can. */
  problem: MusterError | undefined;

  put(release: ReleaseRef, manifest = `name: ${release.service}\ncommand: [./run]\n`): void {
    const order = {
      release,
      artifact: artifactOf(release.digest),
      moduleArtifacts: release.modules.map(({ digest }) => artifactOf(digest)),
    };
    this.#all.set(`${release.service} ${release.version}`, { order, manifest });
  }

  remove(service: string, version: string): void {
    this.#all.delete(`${service} ${version}`);
  }

  find(service: string, version: string): { readonly manifest: string } | undefined {
    return this.#all.get(`${service} ${version}`);
  }

  deployOrder(service: string, version: string): DeployOrder {
    if (this.problem) throw this.problem;
    const found = this.#all.get(`${service} ${version}`);
    if (found) return found.order;
    const known = [...this.#all.values()].map(({ order }) => order.release.version);
    throw new MusterError(
      'not_found',
      `service "${service}" has no release "${version}".${didYouMean(version, known)}`,
      {
        reason: 'RELEASE_UNKNOWN',
      },
    );
  }
}
