import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { MusterError } from '../../../src/kit/errors.js';
import { manifestSchemaText } from '../../../src/model/manifest-schema.js';
import { checkManifest, parseManifest } from '../../../src/model/manifest.js';

const FULL = `
name: orders                      # [a-z0-9-], unique per site
version: 1.4.2
driver: process
command: [node, server.js]
user: orders
env: { PORT: "8080" }
ports: [{ name: http, port: 8080 }, { name: admin, port: 8081, host: 10.0.0.5 }]
ping: { http: /health, port: http, every: 10s, timeout: 2s, failures: 3, successes: 2 }
start: { settle: 2s, retries: 3 }
stop: { signal: SIGTERM, grace: 10s }
logs: { files: ["*.log"], max_size: 50MB, keep: 10, max_age: 14d }
verify: { exec: [./verify.sh], timeout: 60s }
backup: { paths: [data/], exclude: ["*.tmp"], schedule: "0 3 * * *", keep: { last: 7, daily: 14 } }
modules: { shared-lib: 2.3.1 }
hooks: { install: [npm, ci, --omit=dev] }
config: { schema: config.schema.json, notify: SIGHUP }
`;

/** What is said about a wrong manifest, a line each. */
function mistakes(text: string): string[] {
  const result = checkManifest(text);
  return result.ok ? [] : result.mistakes.map((mistake) => mistake.text);
}

function first(text: string): string {
  return mistakes(text)[0] ?? '';
}

describe('a manifest', () => {
  it('is read whole, in milliseconds and bytes', () => {
    assert.deepEqual(parseManifest(FULL), {
      name: 'orders',
      version: '1.4.2',
      driver: 'process',
      unit: 'orders',
      command: ['node', 'server.js'],
      user: 'orders',
      directory: undefined,
      env: { PORT: '8080' },
      ports: [
        { name: 'http', port: 8080, host: '127.0.0.1' },
        { name: 'admin', port: 8081, host: '10.0.0.5' },
      ],
      ping: {
        kind: 'http',
        path: '/health',
        host: '127.0.0.1',
        port: 8080,
        everyMs: 10_000,
        timeoutMs: 2000,
        failures: 3,
        successes: 2,
      },
      start: { settleMs: 2000, retries: 3 },
      restart: 'always',
      stop: { signal: 'SIGTERM', graceMs: 10_000 },
      logs: { files: ['*.log'], maxSizeBytes: 50_000_000, keep: 10, maxAgeMs: 1_209_600_000 },
      verify: { exec: ['./verify.sh'], timeoutMs: 60_000 },
      backup: {
        paths: ['data'],
        exclude: ['*.tmp'],
        schedule: '0 3 * * *',
        timeZone: 'UTC',
        keep: { last: 7, daily: 14, weekly: 0, monthly: 0 },
        verify: '0 5 * * 0',
        copy: [],
      },
      modules: { 'shared-lib': '2.3.1' },
      hooks: { install: ['npm', 'ci', '--omit=dev'], timeoutMs: 600_000 },
      releases: { keep: 5, maxSizeBytes: 5_000_000_000 },
      config: { schema: 'config.schema.json', notify: 'SIGHUP' },
    });
  });

  it('needs a name and a command; the rest has defaults', () => {
    const least = parseManifest('name: a\ncommand: [b]');
    assert.deepEqual(
      [least.version, least.unit, least.user, least.start, least.logs.maxSizeBytes, least.ping],
      ['0.0.0', 'a', undefined, { settleMs: 1000, retries: 5 }, 50_000_000, undefined],
    );
    assert.deepEqual(parseManifest('{\n\t"name": "a",\n\t"command": ["b"]\n}'), least, 'JSON with tabs, too');
    assert.equal(parseManifest('{name: web, driver: sysv, unit: nginx}').unit, 'nginx');
  });

  it('knows every kind of ping', () => {
    const ping = (text: string) =>
      parseManifest(`{name: a, command: [b], ports: [{name: x, port: 7}], ping: ${text}}`).ping;
    const timing = { everyMs: 10_000, timeoutMs: 2000, failures: 3, successes: 1 };
    const host = '127.0.0.1';
    assert.deepEqual(ping('{http: /}'), { kind: 'http', path: '/', host, port: 7, ...timing });
    assert.deepEqual(ping('{grpc: "", port: 9}'), { kind: 'grpc', service: '', host, port: 9, ...timing });
    assert.deepEqual(ping('{tcp: x}'), { kind: 'tcp', host, port: 7, ...timing });
    assert.deepEqual(ping('{exec: [./ok]}'), { kind: 'exec', command: ['./ok'], ...timing });
    assert.deepEqual(ping('{ttl: 1m}'), { kind: 'ttl', ttlMs: 60_000, ...timing });
  });
});

describe('a wrong manifest', () => {
  it('gets every mistake with its line and column, in the order of the text', () => {
    const text = `name: Orders!
comand: [node]
env: { PORT: 8080, 1A: "x" }
ports: [{ name: http, port: 80800 }, {name: h2}]
ping: { http: health }
start: { settle: 2 s }
stop: { signal: TERM }
logs: { files: ["../*.log", /etc/passwd], max_size: much }
version: 1.4
`;
    assert.deepEqual(
      mistakes(text).map((line) => line.replace(/ Known here: .*/, '').replace(/ SIGINT.*/, '')),
      [
        'muster.yaml:1:7: name: "Orders!" is wrong: expected lower-case letters, digits and dashes, at most 63',
        'muster.yaml:2:1: comand: there is no such field. Did you mean "command"?',
        'muster.yaml:3:14: env.PORT: 8080 is wrong: expected text; put numbers and true or false in quotes',
        'muster.yaml:3:20: env.1A: this name is wrong: expected a variable name: letters, digits and underscores',
        'muster.yaml:4:29: ports[0].port: 80800 is wrong: expected a whole number from 1 to 65535',
        'muster.yaml:4:38: ports[1].port: missing: expected a whole number from 1 to 65535',
        'muster.yaml:5:15: ping.http: "health" is wrong: expected a path such as /health',
        'muster.yaml:6:18: start.settle: "2 s" is wrong: expected a duration such as 250ms, 10s or 14d',
        'muster.yaml:7:17: stop.signal: "TERM" is wrong: expected one of SIGTERM,',
        'muster.yaml:8:17: logs.files[0]: "../*.log" is wrong: expected a relative path without ".."',
        'muster.yaml:8:29: logs.files[1]: "/etc/passwd" is wrong: expected a relative path without ".."',
        'muster.yaml:8:53: logs.max_size: "much" is wrong: expected a size such as 50MB or 64KiB',
        'muster.yaml:9:10: version: 1.4 is wrong: expected a version such as "1.4.2" (in quotes where it looks like a number)',
      ],
    );
  });

  it('is told what its parts say of each other', () => {
    const wrong = (rest: string): string => mistakes(`name: a\n${rest}`).join('\n');
    assert.match(wrong('version: "1"'), /command: missing: expected the program/);
    assert.match(wrong('driver: sysv\ncommand: [x]'), /:3:1: command: driver sysv takes this from the init script/);
    assert.match(wrong('command: [x]\nunit: b'), /:3:1: unit: driver process has no unit/);
    assert.match(wrong('command: [x]\nping: {http: /, tcp: 3}'), /ping.tcp: there is http already/);
    assert.match(wrong('command: [x]\nping: {http: /}'), /ping: port is missing: http needs one/);
    assert.match(wrong('command: [x]\nping: {every: 1s}'), /ping: expected one of http, grpc, tcp, exec, ttl/);
    assert.match(
      wrong('command: [x]\nping: {http: /, every: 1ms, port: 3}'),
      /"1ms" is too short: expected at least 100ms/,
    );
    assert.match(
      wrong('command: [x]\nports: [{name: http, port: 1}, {name: http, port: 2}]\nping: {tcp: htp}'),
      /:3:\d+: ports\[1\].name: "http" is taken[^]*:4:\d+: ping.tcp: there is no port "htp". Did you mean "http"\?/,
    );
    assert.match(wrong('command: [x]\nenv: {MUSTER_AGENT: "x"}'), /begin with MUSTER_ are set by the agent/);
    assert.match(wrong('command: [x]\nlogs: {max_size: 1KB}'), /too small: expected at least 64KiB/);
  });

  it('cannot be a bomb, a trap or a riddle', () => {
    assert.match(first('name: a\nname: b'), /^muster.yaml:2:1: this key is written twice/);
    assert.match(first('__proto__: {x: 1}'), /"__proto__" cannot be a key/);
    const bomb = [
      'a: &a [1,1,1,1,1,1,1,1,1]',
      ...['b', 'c', 'd', 'e', 'f'].map((key, index) => {
        const before = '*' + 'abcde'.charAt(index);
        return `${key}: &${key} [${Array.from({ length: 9 }, () => before).join(',')}]`;
      }),
    ].join('\n');
    assert.match(first(bomb), /too many values or levels/);
    assert.match(first('a: &x [*x]'), /too many values or levels/);
    assert.match(first('a: *x'), /x/);
    assert.match(first('['.repeat(100_000)), /nested too deeply/);
    assert.match(first(`name: ${'a'.repeat(300_000)}`), /longer than/);
    assert.match(first('name: a\n---\nname: b'), /:2:1: a second document/);
    assert.match(first(''), /nothing is written here: expected a mapping/);
    assert.match(first('name: !!js/function x'), /muster.yaml:1:7/);
  });

  it('is thrown as one error with a field each', () => {
    assert.throws(
      () => parseManifest('name: A\nuser: 3', { file: 'x/orders.yaml' }),
      (error: unknown) =>
        error instanceof MusterError &&
        error.code === 'invalid' &&
        error.reason === 'MANIFEST_INVALID' &&
        error.fields.map(({ field }) => field).join() === 'name,user' &&
        error.message.startsWith('x/orders.yaml:1:7: name: '),
    );
  });

  it('of many mistakes names the first whole and counts the others, each of them a field, none twice', () => {
    const wrong = Array.from({ length: 30 }, (_, index) => `unheard_of_${index}: 1`);
    assert.throws(
      () => parseManifest(['name: a', 'command: [b]', ...wrong].join('\n'), { file: 'chatty.yaml' }),
      (error: unknown) => {
        assert.ok(error instanceof MusterError);
        const lines = error.message.split('\n');
        const shown = lines.slice(0, -1);
        assert.ok(error.message.length < 1024, 'a status takes no more');
        assert.ok(shown.length >= 2 && shown.length <= 5);
        for (const line of shown) assert.match(line, /^chatty\.yaml:\d+:1: unheard_of_\d+: there is no such field/);
        assert.equal(lines.at(-1), `and ${30 - shown.length} more`);
        assert.deepEqual(
          shown,
          error.fields.slice(0, shown.length).map(({ description }) => description),
        );
        assert.equal(new Set(error.fields.map(({ description }) => description)).size, 30);
        return true;
      },
    );
  });

  it('never makes the reader fail, whatever it is', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string({ unit: 'binary' }), fc.json()), (text) => {
        const result = checkManifest(text);
        if (!result.ok) for (const { text: said } of result.mistakes) assert.match(said, /^muster\.yaml:\d+:\d+: ./s);
      }),
    );
  });
});

describe('the JSON Schema for editors', () => {
  it('is what the code says (node --import tsx scripts/manifest-schema.mjs writes it)', async () => {
    const file = join(import.meta.dirname, '../../../schemas/muster.schema.json');
    assert.equal(await readFile(file, 'utf8'), manifestSchemaText());
  });
});
