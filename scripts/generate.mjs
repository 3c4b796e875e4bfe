/** `npm run generate`: makes generated/ from proto/. */
import { regenerate } from './contracts.mjs';

const count = await regenerate();
process.stdout.write(`generated/ is made anew: ${count} files\n`);
