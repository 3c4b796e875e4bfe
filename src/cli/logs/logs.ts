import type { Command } from 'commander';
import type { Io } from '../io.js';
import { registerGrep } from './grep.js';
import { registerTail } from './tail.js';

export function register(program: Command, io: Io): void {
  const logs = program.command('logs').description("services' logs");
  registerTail(logs, io);
  registerGrep(logs, io);
}
