/** Starts and ends supervisors as ya-provider does (exe-unit.md 3.4, 3.5): at the end SIGTERM, five seconds, SIGKILL. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { timeoutError, withDeadline } from '../lib/deadline.ts';
import { isYavmError, YavmError } from '../lib/errors.ts';
import { type Logger, silentLogger } from '../lib/logger.ts';
import type { ActivityRecord, ActivityService } from './activity-service.ts';
import { type AgreementTerms, buildAgreement, newAgreementId } from './agreement-file.ts';
import {
  makeActivityPlace,
  type ProcessEnd,
  type SupervisorPlan,
  type SupervisorProcess,
  spawnSupervisor,
} from './supervisor-process.ts';

export interface ActivityHostOptions extends SupervisorPlan {
  service: ActivityService;
  logger?: Logger;
}

export interface StartOptions {
  agreement: AgreementTerms;
  /** Default: a random one, 32 hexadecimal digits. */
  activity?: string;
  /** One that waits, instead of a new one; its ids stand. It is this one's to end, whatever becomes of the start. */
  standing?: SupervisorProcess;
  /** Milliseconds until it must have reported Initialized. */
  initializedWithin?: number;
  signal?: AbortSignal;
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

  #spawn({ agreement, activity, standing }: StartOptions): RunningActivity {
    const { service, logger = silentLogger } = this.#options;
    const terms = { ...agreement, id: standing?.place.agreementId ?? agreement.id ?? newAgreementId() };
    const place = standing?.place ?? makeActivityPlace(this.#options, terms.id, activity);
    writeFileSync(place.agreementFile, JSON.stringify(buildAgreement(terms), null, 2));
    service.announce(place.activity);
    const supervisor = standing ?? spawnSupervisor(place, this.#options);
    supervisor.go();
    return new RunningActivity({ supervisor, agreement: terms, service, logger });
  }
}

interface Parts {
  supervisor: SupervisorProcess;
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
  readonly #supervisor: SupervisorProcess;
  readonly #service: ActivityService;
  #over = false;
  #stopping: Promise<ProcessEnd> | undefined;

  constructor({ supervisor, agreement, service, logger }: Parts) {
    const { activity, workFolder } = supervisor.place;
    this.activity = activity;
    this.workFolder = workFolder;
    this.agreement = agreement;
    this.#supervisor = supervisor;
    this.#service = service;
    this.ended = supervisor.ended;
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
    return this.#supervisor.child.pid;
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
    const { child } = this.#supervisor;
    if (this.#over || child.pid === undefined) return await this.ended;
    child.kill('SIGTERM');
    try {
      return await withDeadline(this.ended, grace, 'the supervisor');
    } catch (error) {
      if (!isYavmError(error, 'YAVM_E_TIMEOUT')) throw error;
      child.kill('SIGKILL');
      return await withDeadline(this.ended, KILL_WAIT, `process ${child.pid}`);
    }
  }

  #startError(met: ActivityRecord | ProcessEnd): YavmError {
    const said = this.record;
    const reasons = [said?.reason, said?.errorMessage].filter((text) => text !== undefined);
    const end = 'code' in met ? endText(met) : 'it reported Terminated';
    const text = `the supervisor could not start the activity: ${reasons.length > 0 ? reasons.join(', ') : end}`;
    const failure = this.#supervisor.failure();
    return new YavmError('YAVM_E_ACTIVITY_START', text, {
      cause: failure ?? undefined,
      hint: failure ? undefined : this.#hint(),
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
