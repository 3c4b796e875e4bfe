import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { tellingLine } from '../../../../src/agent/services/last-lines.js';

/** What a program printed, and the line that says why it ended. */
const CASES: readonly (readonly [string, string, string])[] = [
  [
    'Node, an error',
    `starting
file:///srv/web.js:3
throw new TypeError('no database given');
      ^

TypeError: no database given
    at file:///srv/web.js:3:7
    at ModuleJob.run (node:internal/modules/esm/module_job:222:25)

Node.js v20.20.0`,
    'TypeError: no database given',
  ],
  [
    'Node, a system error with its facts',
    `node:events:497
      throw er; // Unhandled 'error' event
      ^

Error: listen EADDRINUSE: address already in use 127.0.0.1:80
    at Server.setupListenHandle [as _listen2] (node:net:1908:16) {
  code: 'EADDRINUSE',
  errno: -98,
  syscall: 'listen',
  port: 80
}

Node.js v20.20.0`,
    'Error: listen EADDRINUSE: address already in use 127.0.0.1:80',
  ],
  [
    'Node, an error with a code and a cause',
    `Error [ERR_MODULE_NOT_FOUND]: Cannot find package 'pg'
    at packageResolve (node:internal/modules/esm/resolve:873:9) {
  [cause]: Error: inner
}
Node.js v20.20.0`,
    "Error [ERR_MODULE_NOT_FOUND]: Cannot find package 'pg'",
  ],
  [
    'Node, a rejection that is no error',
    `node:internal/process/promises:394
      triggerUncaughtException(err, true /* fromPromise */);
      ^

[UnhandledPromiseRejection: This error originated either by throwing or by rejecting: the reason "x".] {
  code: 'ERR_UNHANDLED_REJECTION'
}

Node.js v20.20.0`,
    '[UnhandledPromiseRejection: This error originated either by throwing or by rejecting: the reason "x".] {',
  ],
  [
    'Python',
    `Traceback (most recent call last):
  File "web.py", line 1, in <module>
    import nothing
ModuleNotFoundError: No module named 'nothing'`,
    "ModuleNotFoundError: No module named 'nothing'",
  ],
  [
    'Go',
    `panic: runtime error: index out of range [1] with length 1

goroutine 1 [running]:
main.main()
	/srv/main.go:5 +0x1d
exit status 2`,
    'panic: runtime error: index out of range [1] with length 1',
  ],
  [
    'Java',
    `Exception in thread "main" java.lang.IllegalStateException: no database
	at Main.main(Main.java:3)`,
    'Exception in thread "main" java.lang.IllegalStateException: no database',
  ],
  ['a log', '12:00 ERROR cannot bind port 80\n12:00 INFO bye', '12:00 ERROR cannot bind port 80'],
  ['nginx', 'nginx: [emerg] bind() failed\nnginx: configuration file test failed', 'nginx: [emerg] bind() failed'],
  ['colours', '\u001b[31mfatal: no such branch\u001b[0m\n', 'fatal: no such branch'],
  ['words that only sound like it', 'checked, no errors\nout of coffee', 'out of coffee'],
  ['nothing but noise at the end', 'out of coffee\n    at x (y.js:1)\n}', 'out of coffee'],
  ['nothing but noise', '}', '}'],
  ['nothing', '', ''],
];

describe('the line that says why a program ended', () => {
  for (const [name, text, expected] of CASES) {
    it(`of ${name}`, () => {
      assert.equal(tellingLine(text.split('\n')), expected);
    });
  }

  it('is never long', () => {
    assert.equal(tellingLine([`Error: ${'x'.repeat(10_000)}`]).length, 200);
  });
});
