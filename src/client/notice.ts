const said = new Set<string>();

/** Says something to whoever runs the program, each message once per process: a Node.js warning, on standard error unless handled. */
export function noticeOnce(code: string, message: string): void {
  const key = `${code} ${message}`;
  if (said.has(key)) return;
  said.add(key);
  process.emitWarning(message, { type: 'MusterWarning', code: `MUSTER_${code}` });
}

/** There is no agent: said by whatever part of the library is used first. */
export function noticeNoAgent(): void {
  noticeOnce(
    'NO_AGENT',
    'MUSTER_AGENT is not set, so there is no agent to talk to: configuration stays at its defaults and counters are not reported',
  );
}
