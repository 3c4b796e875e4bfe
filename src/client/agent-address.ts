/** The address of the machine's agent as a program finds it: `MUSTER_AGENT` holds the path of the service's own socket. */
export function agentAddress(environment: Readonly<Record<string, string | undefined>>): string | undefined {
  return addressIn(environment['MUSTER_AGENT']);
}

/** The address of the queue as a program finds it: `MUSTER_QUEUE` holds a socket's path, `unix:` or not, or `host:port`. */
export function queueAddress(environment: Readonly<Record<string, string | undefined>>): string | undefined {
  return addressIn(environment['MUSTER_QUEUE']);
}

function addressIn(text: string | undefined): string | undefined {
  if (text === undefined || text === '') return undefined;
  return text.startsWith('/') ? `unix:${text}` : text;
}
