/** Writes schemas/muster.schema.json, for editors: `node --import tsx scripts/manifest-schema.mjs`. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { manifestSchemaText } from '../src/model/manifest-schema.js';

await writeFile(join(import.meta.dirname, '..', 'schemas', 'muster.schema.json'), manifestSchemaText());
