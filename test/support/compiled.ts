import { existsSync } from 'node:fs';
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { dirname, join, relative, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import ts from 'typescript';

const ROOT = resolve(import.meta.dirname, '../..');
const BUILT = join(ROOT, 'dist');
const IMPORTED = /from '(\.[^']+)\.js'/g;

/**
 * Compiles a program of the tests once, over what `npm run build` made of the sources, so that a test which starts it hundreds of times does
 * not compile hundreds of times. Resolves with the arguments that start it; where there is no build, or an old one, it is run as it is.
 */
export async function compiled(entry: string, into: string): Promise<readonly string[]> {
  const files = new Map<string, string>();
  if (!(await gather(entry, files))) return ['--import', 'tsx', entry];
  for (const [file, text] of files) {
    const { outputText } = ts.transpileModule(text, {
      compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2023, verbatimModuleSyntax: true },
    });
    const linked = outputText.replaceAll(IMPORTED, (_, path: string) => {
      const from = join(dirname(file), path);
      const built = isOurs(from) ? join(BUILT, relative(ROOT, `${from}.js`)) : outOf(into, `${from}.ts`);
      return `from '${pathToFileURL(built).href}'`;
    });
    await mkdir(dirname(outOf(into, file)), { recursive: true });
    await writeFile(outOf(into, file), linked);
  }
  return [outOf(into, entry)];
}

/** Whether the build has all that the file and what it imports of the tests need. */
async function gather(file: string, files: Map<string, string>): Promise<boolean> {
  if (files.has(file)) return true;
  const text = await readFile(file, 'utf8');
  files.set(file, text);
  for (const [, path = ''] of text.matchAll(IMPORTED)) {
    const from = join(dirname(file), path);
    if (isOurs(from) ? !(await isBuilt(from)) : !(await gather(`${from}.ts`, files))) return false;
  }
  return true;
}

function isOurs(path: string): boolean {
  return ['src', 'generated'].includes(relative(ROOT, path).split('/')[0] ?? '');
}

async function isBuilt(source: string): Promise<boolean> {
  const built = join(BUILT, relative(ROOT, `${source}.js`));
  return existsSync(built) && (await stat(built)).mtimeMs >= (await stat(`${source}.ts`)).mtimeMs;
}

function outOf(into: string, file: string): string {
  return join(into, relative(ROOT, file).replace(/\.ts$/, '.mjs'));
}
