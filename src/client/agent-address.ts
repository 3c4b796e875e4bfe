/** The address of the machine's agent as a program finds it: `MUSTER_AGENT` holds the path of the service's own socket. */
export function agentAddress(environment: Readonly<Record<string, string | undefined>>): string | undefined {
  const text = environment['MUSTER_AGENT'];
  if (text === undefined || text === '') return undefined;
  return text.startsWith('/') ? `unix:${text}` : text;
}
