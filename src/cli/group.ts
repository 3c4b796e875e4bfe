import type { Command } from 'commander';
import type { Io } from './io.js';

/** A command group: one file, loaded only when one of its commands is typed. */
export interface Group {
  readonly register: (program: Command, io: Io) => void;
}

/** Which file knows which command. Loading only that file keeps the start of a command short. */
export const GROUPS: Readonly<Record<string, () => Promise<Group>>> = {
  dev: () => import('./dev.js'),
  center: () => import('./center.js'),
  agent: () => import('./agent.js'),
  queue: () => import('./queue.js'),
  login: () => import('./login.js'),
  contexts: () => import('./login.js'),
  token: () => import('./token.js'),
  status: () => import('./status.js'),
  machines: () => import('./machines.js'),
  queues: () => import('./queues.js'),
  services: () => import('./services.js'),
  start: () => import('./actions.js'),
  stop: () => import('./actions.js'),
  restart: () => import('./actions.js'),
  commands: () => import('./actions.js'),
  release: () => import('./releases/release.js'),
  module: () => import('./releases/module.js'),
  deploy: () => import('./deploys/deploy.js'),
  rollback: () => import('./deploys/deploy.js'),
  backup: () => import('./backups/backup.js'),
  ops: () => import('./operations/operations.js'),
  logs: () => import('./logs/logs.js'),
  alerts: () => import('./alerts.js'),
  counters: () => import('./counters.js'),
  config: () => import('./config.js'),
  call: () => import('./call-command.js'),
  topics: () => import('./topics.js'),
  topic: () => import('./topics.js'),
  subscriptions: () => import('./subscriptions.js'),
  subscription: () => import('./subscriptions.js'),
  publish: () => import('./publish.js'),
  subscribe: () => import('./subscribe.js'),
  pull: () => import('./subscribe.js'),
  peek: () => import('./subscribe.js'),
  'dead-letters': () => import('./dead-letters.js'),
  stats: () => import('./queue-stats.js'),
  completion: () => import('./completion.js'),
};
