import type { Command } from 'commander';
import type { Io } from './io.js';
import { write } from './output.js';

/** Words after a group's name, for completion. */
function script(words: readonly string[], subcommands: ReadonlyMap<string, readonly string[]>): string {
  const cases = [...subcommands]
    .filter(([, names]) => names.length > 0)
    .map(([name, names]) => `      ${name}) COMPREPLY=($(compgen -W "${names.join(' ')}" -- "$current")); return ;;`);
  return [
    '# bash completion for muster: eval "$(muster completion)"; in zsh first: autoload -U bashcompinit && bashcompinit',
    '_muster() {',
    '  local current="${COMP_WORDS[COMP_CWORD]}"',
    '  if [ "$COMP_CWORD" -eq 2 ]; then',
    '    case "${COMP_WORDS[1]}" in',
    ...cases,
    '    esac',
    '  fi',
    `  [ "$COMP_CWORD" -eq 1 ] && COMPREPLY=($(compgen -W "${words.join(' ')}" -- "$current"))`,
    '}',
    'complete -o default -F _muster muster',
    '',
  ].join('\n');
}

function print(io: Io, program: Command): Promise<void> {
  const subcommands = new Map(
    program.commands.map((command) => [command.name(), command.commands.map((one) => one.name())]),
  );
  return write(io.stdout, script([...subcommands.keys()].sort(), subcommands));
}

export function register(program: Command, io: Io): void {
  program
    .command('completion')
    .description('print a bash completion script (works in zsh too)')
    .action(() => print(io, program));
}
