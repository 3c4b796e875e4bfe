import { chmod } from 'node:fs/promises';
import { readFileIfThere, writeFileDurably } from '../../kit/files.js';
import { newSecret } from '../../kit/ids.js';
import { Secret } from '../../kit/secret.js';

const TOKEN_PATTERN = /^[0-9a-z]{32}$/;

/** The token of the loopback listeners: made at the first start, kept in a file that only the agent's user can read. */
export async function loopbackToken(file: string): Promise<Secret> {
  const known = (await readFileIfThere(file))?.trim();
  if (known !== undefined && TOKEN_PATTERN.test(known)) {
    await chmod(file, 0o600);
    return new Secret(known);
  }
  const made = newSecret();
  await writeFileDurably(file, `${made}\n`, 0o600);
  return new Secret(made);
}
