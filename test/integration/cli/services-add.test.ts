import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { it } from 'node:test';
import { runCli } from '../../../src/cli/program.js';
import { TestCenter } from '../../support/center.js';
import { fakeIo } from '../../support/io.js';

it('a wrong manifest is answered with the name of its file and each mistake once, none of them cut', async (t) => {
  const center = await TestCenter.start(t);
  const file = join(center.data, 'chatty.yaml');
  const wrong = Array.from({ length: 9 }, (_, index) => `unheard_of_${index}: 1`);
  await writeFile(file, ['name: chatty', 'command: [x]', 'ports: [{ name: http, port: 80800 }]', ...wrong].join('\n'));
  const io = fakeIo({ home: center.data });
  assert.equal(await runCli(['--socket', center.ready.adminSocket, 'services', 'add', file], io), 1);
  const said = io.complained();
  assert.match(said, /^muster: chatty\.yaml:3:\d+: ports\[0\]\.port: 80800 is wrong: expected/);
  assert.doesNotMatch(said, /…|muster\.yaml/);
  for (const [index] of wrong.entries()) assert.equal(said.split(`unheard_of_${index}: there is`).length, 2, said);
  assert.match(said, /^and \d more$/m);

  const piped = fakeIo({ home: center.data, input: 'name: chatty\n' });
  assert.equal(await runCli(['--socket', center.ready.adminSocket, 'services', 'add', '-'], piped), 1);
  assert.match(piped.complained(), /^muster: standard input:1:1: command: missing/);
});
