import pc from 'picocolors';

/**
 * Whether this command paints: `NO_COLOR` forbids it, `FORCE_COLOR` asks for it, else only a terminal gets colours.
 * That a job of a CI runs it is no reason: what it prints is kept as text, and read by programs.
 */
export function wantsColours(env: NodeJS.ProcessEnv, isTerminal: boolean): boolean {
  if ((env.NO_COLOR ?? '') !== '') return false;
  const forced = env.FORCE_COLOR ?? '';
  if (forced !== '') return forced !== '0';
  return isTerminal && env.TERM !== 'dumb';
}

export const colours = pc.createColors(wantsColours(process.env, process.stdout.isTTY));
