import { createHash } from 'node:crypto';
import { chmod, lstat, mkdir, readdir, readFile, readlink, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** A tree of files as a test says it. Undefined: a directory. */
export type TreeOf = Readonly<
  Record<string, string | Buffer | { readonly link: string } | { readonly run: string } | undefined>
>;

export async function makeTree(root: string, tree: TreeOf): Promise<void> {
  await mkdir(root, { recursive: true });
  for (const [path, what] of Object.entries(tree)) {
    const at = join(root, path);
    await mkdir(join(at, '..'), { recursive: true });
    if (what === undefined) await mkdir(at, { recursive: true });
    else if (typeof what === 'string' || Buffer.isBuffer(what)) await writeFile(at, what);
    else if ('link' in what) await symlink(what.link, at);
    else {
      await writeFile(at, what.run);
      await chmod(at, 0o755);
    }
  }
}

/** Every path with what is there, to compare trees by; modes on request. */
export async function describeTree(root: string, modes = true): Promise<Readonly<Record<string, string>>> {
  const found: Record<string, string> = {};
  const visit = async (below: string): Promise<void> => {
    for (const name of (await readdir(join(root, below))).sort()) {
      const path = join(below, name);
      const stat = await lstat(join(root, path));
      const mode = modes ? ` ${(stat.mode & 0o7777).toString(8)}` : '';
      if (stat.isSymbolicLink()) found[path] = `link ${await readlink(join(root, path))}`;
      else if (stat.isDirectory()) {
        found[path] = `directory${mode}`;
        await visit(path);
      } else {
        const content = await readFile(join(root, path));
        found[path] = `file${mode} ${content.length} ${createHash('sha256').update(content).digest('hex')}`;
      }
    }
  };
  await visit('');
  return found;
}
