/** The import rules of ARCHITECTURE.md. `npm run check` runs them; each rule's comment says how to obey it. */

const DAEMONS = 'center|agent|queue';

/**
 * Files that speak a contract's own types. Everything behind them speaks src/model. The CLI is such an edge as a whole: it asks, and shows
 * the answer; there is nothing behind it.
 */
const WIRE = [
  'service\\.ts$',
  '(^|/)wire\\.ts$',
  '^src/wire/',
  '^src/center/gateway',
  '^src/agent/link',
  '^src/client/',
  '^src/cli/',
  '^src/rpc/',
];

/** A layer that sees only itself and the layers named. */
function layer(name, below) {
  const allowed = [name, ...below].join('|');
  return {
    name: `${name}-is-low`,
    comment: `src/${name} imports only ${below.length > 0 ? below.map((one) => `src/${one}`).join(', ') : 'itself'}: pass in what it needs, or move it up.`,
    severity: 'error',
    from: { path: `^src/${name}/` },
    to: { path: '^(src|test|bench|examples|scripts)/', pathNot: `^src/(${allowed})/` },
  };
}

module.exports = {
  forbidden: [
    {
      name: 'no-circles',
      comment: 'Files that import each other in a circle are one file, or hide a third.',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
    {
      name: 'resolvable',
      comment: 'The import names nothing that exists.',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
    layer('kit', []),
    layer('rpc', ['kit']),
    layer('store', ['kit']),
    layer('model', ['kit']),
    layer('wire', ['kit', 'model']),
    layer('archive', ['kit', 'model']),
    {
      name: 'archives-are-read-in-one-place',
      comment: 'What strangers pack is read by src/archive alone, which refuses what is dangerous: use it.',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/archive/' },
      to: { path: 'node_modules/tar/' },
    },
    layer('enrolment', ['kit', 'rpc', 'model']),
    {
      name: 'wire-only-at-the-edges',
      comment:
        'Only service files, wire.ts files, src/wire, the gateway, the link, the client and the CLI import generated/: translate to src/model there.',
      severity: 'error',
      from: { path: '^src/', pathNot: WIRE },
      to: { path: '^generated/' },
    },
    {
      name: 'translation-only-at-the-edges',
      comment: 'Only the files that may import generated/ need src/wire: behind them everything speaks src/model.',
      severity: 'error',
      from: { path: '^src/', pathNot: WIRE },
      to: { path: '^src/wire/' },
    },
    {
      name: 'rpc-knows-no-contract',
      comment: 'src/rpc is mechanics: of generated/ it sees only health, reflection, status and error details.',
      severity: 'error',
      from: { path: '^src/rpc/' },
      to: { path: '^generated/', pathNot: '^generated/(google|grpc)/' },
    },
    {
      name: 'level-behind-the-port',
      comment: 'Only the LevelDB driver knows LevelDB: use the store port.',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/store/leveldb' },
      to: { path: 'node_modules/(level|classic-level|abstract-level)/' },
    },
    {
      name: 'daemons-meet-in-proto',
      comment: 'center, agent and queue never import each other: they meet in proto/.',
      severity: 'error',
      from: { path: `^src/(${DAEMONS})/` },
      to: { path: `^src/(${DAEMONS})/`, pathNot: '^src/$1/' },
    },
    {
      name: 'library-is-free',
      comment: 'What services link (client, counter, config) must not pull in a daemon or the CLI.',
      severity: 'error',
      from: { path: '^src/(client|counter|config)/' },
      to: { path: `^src/(${DAEMONS}|cli|web)/` },
    },
    {
      name: 'cli-is-the-top',
      comment: 'Nothing imports the CLI.',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/cli/' },
      to: { path: '^src/cli/' },
    },
    {
      name: 'cli-starts-daemons-by-main',
      comment: "The CLI knows a daemon by its main.ts alone; everything else it does over the daemon's contract.",
      severity: 'error',
      from: { path: '^src/cli/' },
      to: { path: `^src/(${DAEMONS})/`, pathNot: `^src/(${DAEMONS})/main\\.ts$` },
    },
    {
      name: 'main-is-a-root',
      comment: 'Only a composition root (main.ts) knows every part of its process: no part imports it back.',
      severity: 'error',
      from: { path: `^src/(${DAEMONS})/`, pathNot: '/main\\.ts$' },
      to: { path: `^src/(${DAEMONS})/main\\.ts$` },
    },
    {
      name: 'src-stands-alone',
      comment: 'Production code never imports tests, benchmarks, scripts or examples.',
      severity: 'error',
      from: { path: '^src/' },
      to: { path: '^(test|bench|scripts|examples)/' },
    },
    {
      name: 'no-dev-dependencies',
      comment: 'Production code imports only dependencies of package.json, not devDependencies.',
      severity: 'error',
      from: { path: '^src/' },
      to: { dependencyTypes: ['npm-dev', 'npm-no-pkg', 'npm-unknown'], dependencyTypesNot: ['type-only'] },
    },
  ],
  options: {
    doNotFollow: { path: ['node_modules', '^generated/'] },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'node', 'default', 'types'] },
  },
};
