import * as tar from 'tar';

/** Names of the files in a backup, without its manifest, in order. */
export async function readManifestOf(archive: string): Promise<string[]> {
  const found: string[] = [];
  await tar.list({
    file: archive,
    onReadEntry: ({ type, path }) => {
      if (type === 'File' && !path.includes('muster')) found.push(path);
    },
  });
  return found.sort();
}
