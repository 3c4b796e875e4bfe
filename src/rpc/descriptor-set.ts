import { readFile } from 'node:fs/promises';

/** The bytes of the descriptor set made with the generated code. */
export async function readDescriptors(): Promise<Uint8Array> {
  return readFile(new URL('../../generated/descriptors.bin', import.meta.url));
}
