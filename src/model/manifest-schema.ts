import { z } from 'zod';
import { parseDuration, parseSize } from '../kit/durations.js';
import { NAME_PATTERN } from '../kit/ids.js';
import { didYouMean } from '../kit/suggest.js';
import { BACKUP_COPIES } from './backup.js';
import { DRIVERS } from './instance.js';
import { aboutBackup } from './manifest-backup.js';
import { NOTIFY_SIGNALS, RESTART_POLICIES, STOP_SIGNALS } from './manifest-types.js';
import type { Issue } from './manifest-text.js';

/**
 * The shape of a manifest as people write it, without transforms, so that it exports as a JSON Schema whole.
 * Each part's `error` says what was expected; what is wrong with it is added where the text is known.
 */

function text(pattern: RegExp, expected: string): z.ZodString {
  return z.string({ error: `expected ${expected}` }).regex(pattern, { error: `expected ${expected}` });
}

function wholeNumber(min: number, max: number): z.ZodInt {
  const error = `expected a whole number from ${min} to ${max}`;
  return z.int({ error }).min(min, { error }).max(max, { error });
}

function oneOf<const W extends readonly string[]>(words: W): z.ZodEnum<{ [K in W[number]]: K }> {
  return z.enum(words, { error: `expected one of ${words.join(', ')}` });
}

function section<S extends z.core.$ZodLooseShape>(shape: S): z.ZodObject<S, z.core.$strict> {
  return z.strictObject(shape, { error: `expected a mapping of ${Object.keys(shape).join(', ')}` });
}

const list = <T extends z.ZodType>(item: T, of: string): z.ZodArray<T> =>
  z.array(item, { error: `expected a list of ${of}` });

const NO_NUL = /^[^\0]*$/;
const duration = text(/^(?:\d+(?:\.\d+)?(?:ms|s|m|h|d|w))+$/, 'a duration such as 250ms, 10s or 14d');
const size = text(/^\d+(?:\.\d+)?\s*(?:B|KB|MB|GB|TB|KiB|MiB|GiB|TiB)?$/, 'a size such as 50MB or 64KiB');

/** Versions of releases and modules. */
export const VERSION_PATTERN = /^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$/;
export const VERSION_EXPECTED = 'a version such as "1.4.2" (in quotes where it looks like a number)';
export const NAME_EXPECTED = 'lower-case letters, digits and dashes, at most 63';
const version = text(VERSION_PATTERN, VERSION_EXPECTED);
const name = text(NAME_PATTERN, NAME_EXPECTED);
const argv = z
  .array(text(NO_NUL, 'text; put numbers in quotes'), {
    error: 'expected a list: the program and each of its arguments',
  })
  .min(1, { error: 'expected at least the program' });
const portNumber = wholeNumber(1, 65_535);
const portOrName = z.union([portNumber, name], { error: 'expected the name of one of the ports, or a port number' });
/** Relative, and staying inside: no leading slash, no `..`, no empty parts. */
const INSIDE = /^(?!\/)(?!(?:.*\/)?\.\.(?:\/|$))[^\0]+$/;
const pathInside = text(INSIDE, 'a relative path without ".."');

const port = section({
  name: name.describe('What pings and checks call it'),
  port: portNumber,
  host: text(/^[A-Za-z0-9.:_-]+$/, 'an address or host name')
    .optional()
    .describe('Where to connect to it; 127.0.0.1 unless said'),
});

const ping = section({
  http: text(/^\/[^\s]*$/, 'a path such as /health')
    .optional()
    .describe('GET this path; 2xx and 3xx pass'),
  grpc: text(/^[A-Za-z0-9_.]*$/, 'the name of a gRPC service, or "" for the whole server')
    .optional()
    .describe('Ask grpc.health.v1 for this service; "" asks for the whole server'),
  tcp: portOrName.optional().describe('Connect to this port'),
  exec: argv.optional().describe('Run this: 0 passes, 1 warns, anything else fails'),
  ttl: duration.optional().describe('The service reports by itself, at least this often'),
  port: portOrName.optional().describe('Where http and grpc ask; the first port unless said'),
  every: duration.optional(),
  timeout: duration.optional(),
  failures: wholeNumber(1, 1000).optional().describe('Failures in a row before CRITICAL'),
  successes: wholeNumber(1, 1000).optional().describe('Successes in a row before PASSING'),
});

const env = z.record(
  text(/^[A-Za-z_][A-Za-z0-9_]*$/, 'a variable name: letters, digits and underscores'),
  text(NO_NUL, 'text; put numbers and true or false in quotes'),
  { error: 'expected a mapping of variable names to text' },
);

const kept = wholeNumber(0, 10_000).optional();
const backup = section({
  paths: list(pathInside, 'paths')
    .min(1, { error: 'expected at least one path' })
    .describe("What is backed up: files and directories, relative to the service's shared directory"),
  exclude: list(text(NO_NUL, 'a pattern'), 'patterns')
    .optional()
    .describe('Left out: names or paths, * within one level, ** over several'),
  schedule: text(/^\S+(?: +\S+){4}$/, 'five cron fields such as "0 3 * * *"')
    .optional()
    .describe('Cron: minute hour day month weekday. Without one: only when asked for, and before deploys'),
  time_zone: text(/^[A-Za-z0-9+_/-]{1,64}$/, 'a time zone such as Europe/Berlin')
    .optional()
    .describe('Of schedule, verify, and the days of keep; UTC unless said'),
  keep: section({ last: kept, daily: kept, weekly: kept, monthly: kept })
    .optional()
    .describe('How many: the last ones, and the last one of each of so many days, weeks, months'),
  verify: text(/^\S+(?: +\S+){4}$/, 'five cron fields such as "0 5 * * 0"')
    .optional()
    .describe('When the latest backup is read back by itself: cron; every Sunday at 5 where there is a schedule'),
  copy: list(oneOf(BACKUP_COPIES), 'places')
    .optional()
    .describe('Where copies go: the center, and the S3 bucket of the machine'),
});

/** A manifest as written. */
export const manifestSchema = section({
  name: name.describe('Unique per site'),
  version: version.optional(),
  driver: oneOf(DRIVERS).optional().describe('Who runs it: the agent (process), systemd, or an init script (sysv)'),
  unit: text(/^[A-Za-z0-9][A-Za-z0-9@._:-]*$/, 'the name of a unit or init script')
    .optional()
    .describe('systemd or sysv name; the name of the service unless said'),
  command: argv.optional().describe('Program and arguments, never a shell string'),
  user: text(/^[a-z_][a-z0-9_.-]{0,31}$/, 'a user name')
    .optional()
    .describe('Who it runs as; never root unless said. With systemd and sysv: who owns its socket'),
  directory: text(/^\/[^\0]*$/, 'an absolute path')
    .optional()
    .describe('Working directory'),
  env: env.optional(),
  ports: list(port, 'ports, each with name and port').optional(),
  ping: ping.optional(),
  start: section({
    settle: duration.optional().describe('How long it must stay up to count as started'),
    retries: wholeNumber(0, 1000).optional().describe('Quick failures in a row before it is given up'),
  }).optional(),
  restart: oneOf(RESTART_POLICIES).optional(),
  stop: section({
    signal: oneOf(STOP_SIGNALS).optional(),
    grace: duration.optional().describe('Time to end by itself before it is killed'),
  }).optional(),
  logs: section({
    files: list(pathInside, 'file names or patterns').optional(),
    max_size: size.optional(),
    keep: wholeNumber(0, 10_000).optional(),
    max_age: duration.optional(),
  }).optional(),
  verify: section({ exec: argv, timeout: duration.optional() }).optional(),
  backup: backup.optional(),
  modules: z.record(name, version, { error: 'expected a mapping of module names to versions' }).optional(),
  hooks: section({
    install: argv.optional().describe('Runs in a new release directory, before the service is stopped'),
    timeout: duration.optional().describe('How long a hook may take; 10m unless said'),
  }).optional(),
  releases: section({
    keep: wholeNumber(1, 1000).optional().describe('Releases that stay on the machine, the present one counted'),
    max_size: size.optional().describe('Bytes of them all, unpacked; the present and the last good one stay anyway'),
  }).optional(),
  config: section({ schema: pathInside.optional(), notify: oneOf(NOTIFY_SIGNALS).optional() }).optional(),
}).describe('A service, as Muster runs it');

export type RawManifest = z.infer<typeof manifestSchema>;

export type ShapeResult =
  { readonly ok: true; readonly raw: RawManifest } | { readonly ok: false; readonly issues: readonly Issue[] };

/** Checks plain values against the shape, then what its parts say of each other. */
export function checkShape(value: unknown): ShapeResult {
  const parsed = manifestSchema.safeParse(value);
  if (!parsed.success) return { ok: false, issues: parsed.error.issues.flatMap((issue) => describe(issue, value)) };
  const issues = [
    ...aboutDriver(parsed.data),
    ...aboutPing(parsed.data),
    ...aboutRest(parsed.data),
    ...aboutLimits(parsed.data),
    ...aboutBackup(parsed.data.backup),
  ];
  return issues.length > 0 ? { ok: false, issues } : { ok: true, raw: parsed.data };
}

function describe(issue: z.core.$ZodIssue, value: unknown): Issue[] {
  if (issue.code === 'unrecognized_keys') {
    const known = knownKeys(issue.path);
    const hints = issue.keys.map((key) => didYouMean(key, known));
    // The fields there are need saying once.
    const lists = hints.indexOf('');
    return issue.keys.map((key, index) => ({
      path: [...issue.path, key],
      text: `there is no such field.${index === lists ? ` Known here: ${known.join(', ')}` : (hints[index] ?? '')}`,
      atKey: true,
    }));
  }
  if (issue.code === 'invalid_key') {
    return [
      { path: issue.path, text: `this name is wrong: ${issue.issues[0]?.message ?? issue.message}`, atKey: true },
    ];
  }
  const got = at(value, issue.path);
  return [
    { path: issue.path, text: got === undefined ? `missing: ${issue.message}` : `${shown(got)}: ${issue.message}` },
  ];
}

/** Fields of the section at a path. */
function knownKeys(path: readonly PropertyKey[]): string[] {
  let schema: z.core.$ZodType | undefined = manifestSchema;
  for (const step of path) {
    schema = unwrap(schema);
    if (schema instanceof z.ZodObject) schema = (schema.shape as Record<string, z.core.$ZodType>)[String(step)];
    else if (schema instanceof z.ZodArray) schema = schema.element;
  }
  const found = unwrap(schema);
  return found instanceof z.ZodObject ? Object.keys(found.shape) : [];
}

function unwrap(schema: z.core.$ZodType | undefined): z.core.$ZodType | undefined {
  return schema instanceof z.ZodOptional ? schema.unwrap() : schema;
}

function at(value: unknown, path: readonly PropertyKey[]): unknown {
  let found = value;
  for (const step of path) {
    if (typeof found !== 'object' || found === null || !Object.hasOwn(found, step)) return undefined;
    found = (found as Record<PropertyKey, unknown>)[step];
  }
  return found;
}

const SHOWN_CHARACTERS_MAX = 60;

function shown(value: unknown): string {
  if (value === null) return 'nothing is written here';
  if (Array.isArray(value)) return 'this is a list';
  if (typeof value === 'object') return 'this is a mapping';
  const json = JSON.stringify(value);
  return `${json.length > SHOWN_CHARACTERS_MAX ? `${json.slice(0, SHOWN_CHARACTERS_MAX)}...` : json} is wrong`;
}

function aboutDriver(raw: RawManifest): Issue[] {
  const driver = raw.driver ?? 'process';
  if (driver === 'process') {
    if (!raw.command)
      return [{ path: ['command'], text: 'missing: expected the program and its arguments (driver process)' }];
    if (raw.command[0] === '') return [{ path: ['command', 0], text: '"" is wrong: expected a program' }];
    return raw.unit === undefined
      ? []
      : [
          {
            path: ['unit'],
            text: 'driver process has no unit: leave it out, or say driver: systemd or sysv',
            atKey: true,
          },
        ];
  }
  const unfit = (['command', 'directory', 'env', 'restart'] as const).filter((field) => raw[field] !== undefined);
  return unfit.map((field) => ({
    path: [field],
    text: `driver ${driver} takes this from the ${driver === 'systemd' ? 'unit' : 'init script'}: leave it out`,
    atKey: true,
  }));
}

const PING_KINDS = ['http', 'grpc', 'tcp', 'exec', 'ttl'] as const;

function aboutPing(raw: RawManifest): Issue[] {
  const { ping: asked } = raw;
  if (!asked) return [];
  const kinds = PING_KINDS.filter((kind) => asked[kind] !== undefined);
  const [kind, second] = kinds;
  if (kind === undefined) return [{ path: ['ping'], text: `expected one of ${PING_KINDS.join(', ')}` }];
  if (second !== undefined) {
    return [{ path: ['ping', second], text: `there is ${kind} already: expected one kind of ping`, atKey: true }];
  }
  const issues = [asked.port, asked.tcp].flatMap((wanted, index) =>
    unknownPort(raw, wanted, ['ping', index === 0 ? 'port' : 'tcp']),
  );
  const needsPort = (kind === 'http' || kind === 'grpc') && asked.port === undefined && (raw.ports ?? []).length === 0;
  if (needsPort) issues.push({ path: ['ping'], text: `port is missing: ${kind} needs one` });
  return issues;
}

function unknownPort(raw: RawManifest, wanted: string | number | undefined, path: string[]): Issue[] {
  const names = (raw.ports ?? []).map((declared) => declared.name);
  if (typeof wanted !== 'string' || names.includes(wanted)) return [];
  const known = names.length > 0 ? `the ports are ${names.join(', ')}` : 'no ports are declared';
  return [{ path, text: `there is no port "${wanted}".${didYouMean(wanted, names)} Here ${known}` }];
}

function aboutRest(raw: RawManifest): Issue[] {
  const issues: Issue[] = [];
  const names = new Set<string>();
  for (const [index, declared] of (raw.ports ?? []).entries()) {
    if (names.has(declared.name)) {
      issues.push({
        path: ['ports', index, 'name'],
        text: `"${declared.name}" is taken by a port above: expected another name`,
      });
    }
    names.add(declared.name);
  }
  for (const variable of Object.keys(raw.env ?? {})) {
    if (variable.startsWith('MUSTER_')) {
      issues.push({ path: ['env', variable], text: 'names that begin with MUSTER_ are set by the agent', atKey: true });
    }
  }
  return issues;
}

/** Below these, a service or its agent would be busy with nothing else. */
const LEAST: readonly { readonly path: readonly string[]; readonly leastMs: number }[] = [
  { path: ['ping', 'every'], leastMs: 100 },
  { path: ['ping', 'timeout'], leastMs: 10 },
  { path: ['ping', 'ttl'], leastMs: 100 },
  { path: ['verify', 'timeout'], leastMs: 100 },
];
const LOG_SIZE_LEAST_BYTES = 64 * 1024;

function aboutLimits(raw: RawManifest): Issue[] {
  const issues: Issue[] = [];
  for (const { path, leastMs } of LEAST) {
    const written = at(raw, path);
    if (typeof written === 'string' && parseDuration(written) < leastMs) {
      issues.push({ path, text: `"${written}" is too short: expected at least ${leastMs}ms` });
    }
  }
  const written = raw.logs?.max_size;
  if (written !== undefined && parseSize(written) < LOG_SIZE_LEAST_BYTES) {
    issues.push({ path: ['logs', 'max_size'], text: `"${written}" is too small: expected at least 64KiB` });
  }
  return issues;
}

/** The JSON Schema of a manifest, for editors: the text of schemas/muster.schema.json. */
export function manifestSchemaText(): string {
  const schema = { ...z.toJSONSchema(manifestSchema, { io: 'input' }), title: 'muster.yaml' };
  return `${JSON.stringify(schema, undefined, 2)}\n`;
}
