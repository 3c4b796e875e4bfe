import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { ModuleRef, ReleaseRef } from '../../../../src/model/release.js';
import {
  COLLECT_AFTER_MS,
  MODULE_VERSIONS_KEPT,
  planCollection,
  RELEASES_KEPT,
  type CollectionFacts,
} from '../../../../src/center/releases/collection.js';
import type { ModuleRecord, ReleaseRecord } from '../../../../src/center/releases/release.js';
import { Usage } from '../../../../src/center/releases/usage.js';
import { wellInstance } from '../../../support/instance-report.js';

const NOW_MS = 100 * COLLECT_AFTER_MS;

function pushed(number: number, pushedMs: number) {
  const signature = { publicKey: '', signature: '' };
  const artifact = { digest: `digest-${number}`, sizeBytes: 1, signature };
  return { artifact, number, pushedMs, pushedBy: '', signedBy: '', note: '', files: 1, unpackedBytes: 1 };
}

function release(number: number, modules: readonly ModuleRef[] = [], pushedMs = 0): ReleaseRecord {
  return { service: 'web', version: `${number}`, modules, manifest: '', ...pushed(number, pushedMs) };
}

function module(number: number, pushedMs = 0): ModuleRecord {
  return { name: 'base', version: `${number}`, ...pushed(number, pushedMs) };
}

function pin(number: number): ModuleRef {
  return { name: 'base', version: `${number}`, digest: '' };
}

function ref({ service, version, artifact, modules }: ReleaseRecord): ReleaseRef {
  return { service, version, digest: artifact.digest, modules, configRevision: 0 };
}

function instance(machine: string, running: ReleaseRecord | undefined, held: readonly ReleaseRecord[] = []) {
  const release = running && { ref: ref(running), deployedMs: 0, verified: true };
  return { machine, report: wellInstance({ service: 'web', version: '', release, heldReleases: held.map(ref) }) };
}

function plan(facts: Partial<CollectionFacts>): { releases: number[]; modules: number[] } {
  const { releases, modules } = planCollection({
    releases: [],
    modules: [],
    usage: new Usage([]),
    inUse: [],
    nowMs: NOW_MS,
    ...facts,
  });
  return {
    releases: releases.map(({ number }) => number).sort(byValue),
    modules: modules.map(({ number }) => number).sort(byValue),
  };
}

const byValue = (a: number, b: number): number => a - b;
const many = (count: number): ReleaseRecord[] => Array.from({ length: count }, (_, index) => release(index + 1));

describe('what is collected', () => {
  it('is not of the newest of each service', () => {
    assert.deepEqual(plan({ releases: many(RELEASES_KEPT) }).releases, []);
    assert.deepEqual(plan({ releases: many(RELEASES_KEPT + 3) }).releases, [1, 2, 3]);
    const other = { ...release(0), service: 'other' };
    assert.deepEqual(plan({ releases: [other, ...many(RELEASES_KEPT + 1)] }).releases, [1]);
  });

  it('is not what a machine runs from or may go back to, nor what an operation needs', () => {
    const releases = many(RELEASES_KEPT + 5);
    const [first = release(0), second = release(0), third = release(0)] = releases;
    const usage = new Usage([instance('a', first, [second]), instance('b', undefined)]);
    assert.deepEqual(plan({ releases, usage, inUse: [ref(third)] }).releases, [4, 5]);
  });

  it('is not what was pushed less than a day ago', () => {
    const releases = [release(1, [], NOW_MS - COLLECT_AFTER_MS), release(2), ...many(RELEASES_KEPT + 2).slice(2)];
    assert.deepEqual(plan({ releases }).releases, [2]);
  });

  it('is a module beyond the newest that no release that stays pins and no machine has', () => {
    const modules = Array.from({ length: MODULE_VERSIONS_KEPT + 4 }, (_, index) => module(index + 1));
    assert.deepEqual(plan({ modules }).modules, [1, 2, 3, 4]);
    // Release 1 goes, and with it the pin of module 1; the machine still has module 3 by a release that the center does not know any more.
    const releases = [release(1, [pin(1)]), release(2, [pin(2)]), ...many(RELEASES_KEPT + 1).slice(2)];
    const usage = new Usage([instance('a', release(999, [pin(3)]))]);
    assert.deepEqual(plan({ modules, releases, usage }), { releases: [1], modules: [1, 4] });
    assert.deepEqual(plan({ modules: modules.map((one) => ({ ...one, pushedMs: NOW_MS })) }).modules, []);
  });
});

describe('usage', () => {
  it('counts a machine that runs from a release and holds it once, as running', () => {
    const [first = release(0), second = release(0)] = many(2);
    const usage = new Usage([instance('a', first, [first, second]), instance('b', second, [])]);
    assert.deepEqual([usage.running('digest-1'), usage.holding('digest-1')], [['a'], []]);
    assert.deepEqual([usage.running('digest-2'), usage.holding('digest-2')], [['b'], ['a']]);
    assert.deepEqual([usage.running('digest-3'), usage.holding('digest-3')], [[], []]);
  });
});
