import type { Command } from 'commander';
import type { Io } from './io.js';
import { write } from './output.js';

/** A command's options, spelt out; hidden ones are for who knows them. */
function optionsOf(command: Command): string[] {
  return command.options.flatMap(({ long, hidden }) => (typeof long === 'string' && !hidden ? [long] : []));
}

/** `    PATTERN) words="..." ;;` */
function caseOf(pattern: string, words: readonly string[]): string[] {
  return words.length === 0 ? [] : [`      ${pattern}) words="${words.join(' ')}" ;;`];
}

/** The first word is a command, the second may be one of its own; what begins with a dash is an option of either. */
function script(program: Command): string {
  const { commands } = program;
  const names = commands.map((command) => command.name()).sort();
  const within = commands.flatMap((command) =>
    caseOf(
      command.name(),
      command.commands.map((one) => one.name()),
    ),
  );
  const options = [
    ...commands.flatMap((group) =>
      group.commands.flatMap((one) => caseOf(`"${group.name()} ${one.name()}"`, optionsOf(one))),
    ),
    ...commands.flatMap((command) => caseOf(`"${command.name()} "*`, optionsOf(command))),
  ];
  return [
    '# bash completion for muster: eval "$(muster completion)"; in zsh first: autoload -U bashcompinit && bashcompinit',
    '_muster() {',
    '  local current="${COMP_WORDS[COMP_CWORD]}" words=""',
    '  if [ "${current:0:1}" = "-" ]; then',
    '    case "${COMP_WORDS[1]} ${COMP_WORDS[2]}" in',
    ...options,
    '    esac',
    `    words="$words ${optionsOf(program).join(' ')}"`,
    '  elif [ "$COMP_CWORD" -eq 2 ]; then',
    '    case "${COMP_WORDS[1]}" in',
    ...within,
    '    esac',
    '  elif [ "$COMP_CWORD" -eq 1 ]; then',
    `    words="${names.join(' ')}"`,
    '  fi',
    '  COMPREPLY=($(compgen -W "$words" -- "$current"))',
    '}',
    'complete -o default -F _muster muster',
    '',
  ].join('\n');
}

export function register(program: Command, io: Io): void {
  program
    .command('completion')
    .description('print a bash completion script (works in zsh too)')
    .action(() => write(io.stdout, script(program)));
}
