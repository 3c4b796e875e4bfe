#!/usr/bin/env node
import { existsSync } from 'node:fs';

const main = new URL('../dist/src/cli/main.js', import.meta.url);
if (!existsSync(main)) {
  process.stderr.write('muster: there is no compiled program in dist: run "npm run build" first\n');
  process.exit(1);
}
await import(main.href);
