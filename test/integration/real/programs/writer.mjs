/**
 * Writes numbered lines of 100 bytes to its standard output, about 5 MB/s of them, until it is told to stop; then notes how many
 * it wrote in the file given. Standard output is a file: each write is complete when it returns.
 *   node writer.mjs NOTE
 */
import { writeFileSync, writeSync } from 'node:fs';

const [, , note] = process.argv;
const LINE_BYTES = 100;
const LINES_PER_TICK = 1000;
const TICK_MS = 20;
let written = 0;

const ticker = setInterval(() => {
  let text = '';
  for (let line = 0; line < LINES_PER_TICK; line += 1) {
    written += 1;
    text += `${String(written).padEnd(LINE_BYTES - 1, '.')}\n`;
  }
  const bytes = Buffer.from(text);
  for (let done = 0; done < bytes.length;) done += writeSync(1, bytes, done);
}, TICK_MS);

process.on('SIGTERM', () => {
  clearInterval(ticker);
  writeFileSync(note, String(written));
});
