/** `1 file`, `7 files`. */
export function filesOf(files: number): string {
  return files === 1 ? '1 file' : `${files} files`;
}
