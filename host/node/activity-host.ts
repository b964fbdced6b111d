/**
 * Starts and ends supervisors as ya-provider does, to the letter where a supervisor could notice (exe-unit.md 3.4, 3.5):
 * words, folders, session, standard streams; SIGTERM, five seconds, SIGKILL.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { timeoutError, withDeadline } from '../lib/deadline.ts';
import { isYavmError, YavmError } from '../lib/errors.ts';
import { type Logger, silentLogger } from '../lib/logger.ts';
import { makeFolders } from '../lib/make-folders.ts';
import { type ActivityRecord, type ActivityService, REPORT_ADDRESS } from './activity-service.ts';
import { type AgreementTerms, buildAgreement, newAgreementId } from './agreement-file.ts';

type Environment = Readonly<Record<string, string | undefined>>;

export interface ActivityHostOptions {
  /** What a descriptor's `supervisor-path` names, with words that come first. */
  program: readonly [file: string, ...words: string[]];
  /** A descriptor's `extra-args`. Default `--cap-handoff`, as ya-runtime-vm's has. */
  extraArgs?: readonly string[];
  service: ActivityService;
  /** Of the bus, in the environment of the supervisor. */
  gsbUrl: string;
  /** `work/<agreement>/<activity>` is made below it. */
  folder: string;
  /** Of images; all activities share it. */
  cacheFolder: string;
  /** Passed on; default this process's. */
  env?: Environment;
  logger?: Logger;
}

export interface StartOptions {
  agreement: AgreementTerms;
  /** Default: a random one, 32 hexadecimal digits. */
  activity?: string;
  /** Milliseconds until it must have reported Initialized. */
  initializedWithin?: number;
  signal?: AbortSignal;
}

/** How a supervisor's process ended: one of them is null. */
export interface ProcessEnd {
  code: number | null;
  signal: NodeJS.Signals | null;
}

/** PROCESS_TERMINATION_TIMEOUT of ya-provider, milliseconds. */
export const TERMINATION_TIMEOUT = 5000;
/** Requestors wait tens of seconds for CreateActivity. Milliseconds. */
const INITIALIZED_WITHIN = 30_000;
/** Time for the kernel to end a process after SIGKILL, milliseconds. */
const KILL_WAIT = 5000;

export class ActivityHost {
  readonly #options: ActivityHostOptions;

  constructor(options: ActivityHostOptions) {
    this.#options = options;
  }

  /**
   * Starts a supervisor; resolves when the activity is Initialized. One that does not get there is ended.
   * @throws {YavmError} YAVM_E_ACTIVITY_START with what the supervisor said about it; YAVM_E_TIMEOUT; the signal's reason
   */
  async start(options: StartOptions): Promise<RunningActivity> {
    const { initializedWithin = INITIALIZED_WITHIN, signal } = options;
    signal?.throwIfAborted();
    const activity = this.#spawn(options);
    try {
      await activity.initialized(initializedWithin, signal);
      return activity;
    } catch (error) {
      await activity.stop();
      throw error;
    }
  }

  #spawn({ agreement, activity = newActivityId() }: StartOptions): RunningActivity {
    const { program, extraArgs = ['--cap-handoff'], service, gsbUrl, cacheFolder } = this.#options;
    const terms = { ...agreement, id: agreement.id ?? newAgreementId() };
    const agreementFolder = join(this.#options.folder, 'work', terms.id);
    const workFolder = join(agreementFolder, activity);
    const agreementFile = join(agreementFolder, 'agreement.json');
    for (const folder of [workFolder, cacheFolder]) makeFolders(folder);
    writeFileSync(agreementFile, JSON.stringify(buildAgreement(terms), null, 2));

    service.announce(activity);
    const [file, ...words] = program;
    const argv = [
      ...[...words, ...extraArgs, 'service-bus', activity, REPORT_ADDRESS],
      ...['-c', cacheFolder, '-w', workFolder, '-a', agreementFile],
    ];
    const child = spawn(file, argv, {
      cwd: workFolder,
      env: { ...(this.#options.env ?? process.env), GSB_URL: gsbUrl },
      stdio: 'ignore',
      // setsid(): a session and a process group of its own.
      detached: true,
    });
    return new RunningActivity({
      activity,
      child,
      workFolder,
      agreement: terms,
      service,
      logger: this.#options.logger ?? silentLogger,
    });
  }
}

interface Parts {
  activity: string;
  child: ChildProcess;
  workFolder: string;
  agreement: AgreementTerms & { id: string };
  service: ActivityService;
  logger: Logger;
}

/** A supervisor's process, and what the node knows of its activity. */
export class RunningActivity {
  readonly activity: string;
  /** Its current directory; `logs` in it stays. */
  readonly workFolder: string;
  readonly agreement: AgreementTerms & { id: string };
  /** Resolves when the process has ended. */
  readonly ended: Promise<ProcessEnd>;
  readonly #child: ChildProcess;
  readonly #service: ActivityService;
  #failure: Error | null = null;
  #over = false;
  #stopping: Promise<ProcessEnd> | undefined;

  constructor({ activity, child, workFolder, agreement, service, logger }: Parts) {
    this.activity = activity;
    this.workFolder = workFolder;
    this.agreement = agreement;
    this.#child = child;
    this.#service = service;
    this.ended = new Promise((resolve) => {
      child.once('error', (error) => {
        this.#failure = error;
        // It never came to be; there is no exit then.
        if (child.pid === undefined) resolve({ code: null, signal: null });
      });
      child.once('exit', (code, signal) => resolve({ code, signal }));
    });
    const unwatch = service.listen((event) => {
      if (event.activity !== activity || event.kind !== 'dead') return;
      logger.warn({ activity, silent: event.silent }, 'node: the supervisor is silent, so it is ended');
      void this.stop();
    });
    void this.ended.then((end) => {
      this.#over = true;
      unwatch();
      // After a normal exit the supervisor must have said it itself.
      if (end.signal !== null) service.setTerminated(activity, 'execution aborted');
      logger.debug({ activity, ...end }, 'node: the supervisor has ended');
    });
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  get record(): ActivityRecord | undefined {
    return this.#service.get(this.activity);
  }

  /** Waits for [Initialized, null]. @throws as {@link ActivityHost.start} */
  async initialized(milliseconds: number, signal?: AbortSignal): Promise<void> {
    const settled = new AbortController();
    const reached = this.#service.reached(this.activity, isSettled, {
      deadline: milliseconds,
      what: `the supervisor of activity ${this.activity}`,
      signal: signal ? AbortSignal.any([signal, settled.signal]) : settled.signal,
    });
    try {
      const record = await Promise.race([reached, this.ended]);
      if (!('state' in record) || record.state[0] === 'Terminated') throw this.#startError(record);
    } catch (error) {
      if (!isYavmError(error, 'YAVM_E_TIMEOUT')) throw error;
      throw timeoutError('the supervisor (Initialized)', milliseconds, this.#hint());
    } finally {
      settled.abort();
      reached.catch(() => {});
    }
  }

  /**
   * Ends it as the provider does: SIGTERM to the process alone, SIGKILL after `grace` milliseconds. Later calls wait for
   * the first one.
   */
  stop(grace: number = TERMINATION_TIMEOUT): Promise<ProcessEnd> {
    this.#stopping ??= this.#stop(grace);
    return this.#stopping;
  }

  async #stop(grace: number): Promise<ProcessEnd> {
    if (this.#over || this.#child.pid === undefined) return await this.ended;
    this.#child.kill('SIGTERM');
    try {
      return await withDeadline(this.ended, grace, 'the supervisor');
    } catch (error) {
      if (!isYavmError(error, 'YAVM_E_TIMEOUT')) throw error;
      this.#child.kill('SIGKILL');
      return await withDeadline(this.ended, KILL_WAIT, `process ${this.#child.pid}`);
    }
  }

  #startError(met: ActivityRecord | ProcessEnd): YavmError {
    const said = this.record;
    const reasons = [said?.reason, said?.errorMessage].filter((text) => text !== undefined);
    const end = 'code' in met ? endText(met) : 'it reported Terminated';
    const text = `the supervisor could not start the activity: ${reasons.length > 0 ? reasons.join(', ') : end}`;
    return new YavmError('YAVM_E_ACTIVITY_START', text, {
      cause: this.#failure ?? undefined,
      hint: this.#failure ? undefined : this.#hint(),
    });
  }

  #hint(): string {
    return `What it logged is in ${join(this.workFolder, 'logs')}.`;
  }
}

/** What CreateActivity waits for (4.5). */
function isSettled({ state: [current, pending] }: ActivityRecord): boolean {
  return pending === null && (current === 'Initialized' || current === 'Terminated');
}

function endText({ code, signal }: ProcessEnd): string {
  if (signal !== null) return `it was ended by ${signal}`;
  return code === null ? 'its program cannot be executed' : `it ended with exit code ${code}`;
}

function newActivityId(): string {
  return randomUUID().replaceAll('-', '');
}
