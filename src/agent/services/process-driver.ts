import type { ChildProcess } from 'node:child_process';
import type { Clock } from '../../kit/clock.js';
import { messageOf } from '../../kit/errors.js';
import { newId } from '../../kit/ids.js';
import type { Logger } from '../../kit/logger.js';
import { readProcess, type ProcessFacts } from '../../kit/proc.js';
import {
  EXIT_UNKNOWN,
  LaunchRefused,
  type Exit,
  type Observation,
  type Running,
  type ServiceDriver,
  type Subject,
  type Surroundings,
  type Unit,
} from './driver.js';
import { SYSTEM_ENVIRONMENT } from '../system/external.js';
import { readLastLines } from './last-lines.js';
import { describeOccupied } from './occupied.js';
import { findLeader, groupMembers, hasVariable, signalGroup } from './proc.js';
import {
  checkDirectory,
  findProgram,
  serviceEnvironment,
  spawnService,
  START_ID,
  type Launch,
} from './process-launch.js';
import { withoutStart, type InstanceRecords, type StartRecord } from './records.js';
import { chooseUser, type ServiceUser } from './users.js';
import { ensureOwned, mainLog, openMainLog } from './workplace.js';

/** What the agent adds to a service's environment, and prepares for it, before each start and adoption. */
export type EnvironmentOf = (service: {
  readonly service: string;
  readonly uid: number;
  readonly gid: number;
}) => Promise<Readonly<Record<string, string>>> | Readonly<Record<string, string>>;

export interface ProcessDriverOptions {
  readonly records: InstanceRecords;
  readonly bootId: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** User of services that name none, when the agent is root. */
  readonly defaultUser: string;
  readonly environmentOf: EnvironmentOf;
}

/** How often a process that is not the agent's child is looked at. */
const POLL_MS = 500;
/** A process whose agent died in the middle of making it may need this long to carry its start id. */
const BIRTH_MS = 250;

/** Services as processes of the agent: each in its own process group, with its own log file, outliving the agent. */
export class ProcessDriver implements ServiceDriver {
  readonly pace = { runningMs: POLL_MS, idleMs: undefined };
  readonly #options: ProcessDriverOptions;

  constructor(options: ProcessDriverOptions) {
    this.#options = options;
  }

  unit(subject: Subject, onEnd: () => void): Unit {
    return new ProcessUnit(this.#options, subject, onEnd);
  }
}

/** The process there is now, if any. */
interface Current {
  readonly pid: number;
  readonly startTicks: number;
  readonly startedMs: number;
  /** The agent's own child: its exit event says when and how it ended, and nothing else does. */
  readonly child: boolean;
  exit?: Exit;
}

class ProcessUnit implements Unit {
  readonly #options: ProcessDriverOptions;
  readonly #subject: Subject;
  readonly #onEnd: () => void;
  readonly #ownUid = process.getuid?.() ?? 0;
  #current: Current | undefined;
  /** How the last process ended. Told again whenever asked: whoever asked first may not have known yet that it had been started. */
  #ended: Observation | undefined;
  #launching = false;
  #stopping = false;
  #logOffset = 0;
  #surroundings: Surroundings = { environment: SYSTEM_ENVIRONMENT };

  constructor(options: ProcessDriverOptions, subject: Subject, onEnd: () => void) {
    this.#options = options;
    this.#subject = subject;
    this.#onEnd = onEnd;
  }

  get #service(): string {
    return this.#subject.manifest.name;
  }

  get surroundings(): Surroundings {
    return this.#surroundings;
  }

  async find(): Promise<Running | undefined> {
    const record = this.#options.records.get(this.#service)?.start;
    if (record?.bootId !== this.#options.bootId) return undefined;
    const leader = await this.#findRecorded(record);
    if (!leader) {
      await this.#sweep(record);
      return undefined;
    }
    if (!record.process) await this.#remember(record, leader);
    this.#current = { pid: leader.pid, startTicks: leader.startTicks, startedMs: record.atMs, child: false };
    await this.#prepareAdopted();
    return { pid: leader.pid, startedMs: record.atMs };
  }

  async start(): Promise<Running> {
    const { records, bootId, clock } = this.#options;
    const before = records.get(this.#service)?.start;
    if (before?.bootId === bootId) await this.#sweep(before);
    this.#stopping = false;
    this.#ended = undefined;
    const { manifest, logDirectory, sharedDirectory, workingDirectory } = this.#subject;
    const user = await chooseUser(clock, manifest.user, this.#options.defaultUser, this.#ownUid);
    const owner = this.#ownUid === 0 ? user : undefined;
    await ensureOwned(logDirectory, owner);
    await ensureOwned(sharedDirectory, owner);
    await checkDirectory(workingDirectory);
    const program = await findProgram(this.#subject, user);
    const occupied = await describeOccupied(manifest.ports);
    if (occupied !== '') throw new LaunchRefused(`${occupied}: stop what holds it, or change the port`, true);
    const extra = await this.#prepare(user, '');
    const log = await openMainLog(logDirectory, this.#service, owner);
    this.#launching = true;
    try {
      this.#logOffset = (await log.stat()).size;
      return await this.#launch({ subject: this.#subject, program, user, extra, outputFd: log.fd });
    } finally {
      await log.close();
      this.#launching = false;
    }
  }

  async terminate(): Promise<void> {
    this.#stopping = true;
    await this.#signal(this.#subject.manifest.stop.signal);
  }

  async kill(): Promise<void> {
    this.#stopping = true;
    await this.#signal('SIGKILL');
  }

  async observe(): Promise<Observation> {
    if (this.#ended) return this.#ended;
    const current = this.#current;
    if (!current || this.#launching) return { kind: 'unclear', reason: 'it is not started yet' };
    const running: Observation = { kind: 'running', running: { pid: current.pid, startedMs: current.startedMs } };
    if (await this.#alive(current)) return running;
    const left = await groupMembers(current.pid);
    if (this.#stopping && left.length > 0) return running;
    if (left.length > 0) signalGroup(current.pid, 'SIGTERM');
    this.#current = undefined;
    const exit = current.exit ?? EXIT_UNKNOWN;
    this.#ended = { kind: 'ended', exit, reason: describeExit(exit), rest: false };
    return this.#ended;
  }

  async lastLines(): Promise<readonly string[]> {
    return readLastLines(this.#subject.logDirectory, mainLog(this.#service), this.#logOffset);
  }

  /** The intent is durable before the process exists; the process is remembered as soon as it does. */
  async #launch(launch: Omit<Launch, 'startId'>): Promise<Running> {
    const { records, bootId, clock, logger } = this.#options;
    const record: StartRecord = { id: newId('start'), bootId, atMs: clock.now() };
    await records.amend(this.#service, (current) => ({ ...current, start: record }));
    const child = await spawnService({ ...launch, startId: record.id }, this.#ownUid).catch(async (error: unknown) => {
      await records.amend(this.#service, (current) =>
        current.start?.id === record.id ? withoutStart(current) : current,
      );
      throw error;
    });
    const facts = await readProcess(child.pid);
    const current: Current = {
      pid: child.pid,
      startTicks: facts?.startTicks ?? 0,
      startedMs: record.atMs,
      child: true,
    };
    this.#current = current;
    this.#follow(child, current);
    if (facts) {
      await this.#remember(record, facts).catch((error: unknown) => {
        // The start id still leads to it: refusing now would start a second one.
        logger.error('the pid of a started service could not be stored', { service: this.#service, error });
      });
    }
    return { pid: child.pid, startedMs: record.atMs };
  }

  #follow(child: ChildProcess, current: Current): void {
    child.unref();
    const ended = (code: number | null, signal: NodeJS.Signals | null): void => {
      current.exit = { code: code ?? undefined, signal: signal ?? '' };
      this.#onEnd();
    };
    // It may have ended while its facts were read.
    if (child.exitCode !== null || child.signalCode !== null) ended(child.exitCode, child.signalCode);
    else child.once('exit', ended);
    child.on('error', (error) => {
      this.#options.logger.warn('a service process reported an error', { service: this.#service, error });
    });
  }

  async #remember(record: StartRecord, { pid, startTicks }: ProcessFacts): Promise<void> {
    await this.#options.records.amend(this.#service, (current) =>
      current.start?.id === record.id ? { ...current, start: { ...record, process: { pid, startTicks } } } : current,
    );
  }

  async #findRecorded(record: StartRecord): Promise<ProcessFacts | undefined> {
    if (record.process) {
      const facts = await readProcess(record.process.pid);
      return facts?.startTicks === record.process.startTicks ? facts : undefined;
    }
    const found = await findLeader(START_ID, record.id);
    if (found) return found;
    await new Promise<void>((resolve) => this.#options.clock.after(BIRTH_MS, resolve));
    return findLeader(START_ID, record.id);
  }

  async #alive(current: Current): Promise<boolean> {
    if (current.child) return current.exit === undefined;
    const facts = await readProcess(current.pid);
    return facts?.startTicks === current.startTicks;
  }

  /** What still lives of the group of an earlier agent's process. The number may have gone to others since: one must carry the start id. */
  async #leftOf(group: number, startId: string): Promise<ProcessFacts[]> {
    const members = await groupMembers(group);
    for (const member of members) if (await hasVariable(member.pid, START_ID, startId)) return members;
    return [];
  }

  /** Kills what an earlier start left behind, so that nothing runs twice and its ports are free. */
  async #sweep(record: StartRecord): Promise<void> {
    const leader = await this.#findRecorded(record);
    const group = leader?.pid ?? record.process?.pid;
    if (group === undefined) return;
    const left = leader ? [leader] : await this.#leftOf(group, record.id);
    if (left.length > 0) signalGroup(group, 'SIGKILL');
  }

  async #signal(signal: NodeJS.Signals): Promise<void> {
    const current = this.#current;
    if (!current) return;
    const left = (await this.#alive(current)) || (await groupMembers(current.pid)).length > 0;
    if (left) signalGroup(current.pid, signal);
    this.#onEnd();
  }

  async #prepare(user: ServiceUser, startId: string): Promise<Readonly<Record<string, string>>> {
    let extra: Readonly<Record<string, string>>;
    try {
      extra = await this.#options.environmentOf({ service: this.#service, uid: user.uid, gid: user.gid });
    } catch (error) {
      throw new LaunchRefused(`its own socket cannot be made: ${messageOf(error)}`, true, error);
    }
    this.#surroundings = {
      environment: serviceEnvironment({ subject: this.#subject, user, extra, startId }),
      ...(this.#ownUid === 0 ? { uid: user.uid, gid: user.gid } : {}),
    };
    return extra;
  }

  async #prepareAdopted(): Promise<void> {
    const { clock, defaultUser, logger } = this.#options;
    try {
      await this.#prepare(await chooseUser(clock, this.#subject.manifest.user, defaultUser, this.#ownUid), '');
    } catch (error) {
      logger.warn('an adopted service may lack its socket', { service: this.#service, error });
    }
  }
}

/** How it ended, for people. */
export function describeExit(exit: Exit): string {
  if (exit.signal !== '') return `ended by ${exit.signal}`;
  return exit.code === undefined ? 'ended; its exit code is not known' : `ended with code ${exit.code}`;
}
