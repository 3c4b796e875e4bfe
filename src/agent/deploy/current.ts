import { rename, rm, symlink } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { syncDirectory } from '../../kit/files.js';
import type { ReleaseRef } from '../../model/release.js';
import type { Places } from './places.js';

/** Sets the link `current` of a service, whole or not at all; undefined removes it. Durable when it resolves. */
export async function switchCurrent(places: Places, service: string, ref: ReleaseRef | undefined): Promise<void> {
  const directory = places.service(service);
  const current = places.current(service);
  if (ref) {
    const aside = join(directory, '.current.new');
    await rm(aside, { force: true });
    await symlink(relative(directory, places.release(ref)), aside);
    await rename(aside, current);
  } else {
    await rm(current, { force: true });
  }
  await syncDirectory(directory);
}
