/**
 * The exe-unit: one activity, from a provider's command line to its last report. The order at the start is what peers
 * see: names and the first state leave in one burst, before anything that boots a VM is in memory.
 */
import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { connectGsb } from '../gsb/connection.ts';
import { formatGsbUrl, type Gsb, parseGsbUrl, RpcError } from '../gsb/index.ts';
import { deferred } from '../lib/deferred.ts';
import { describeError, isYavmError, toError } from '../lib/errors.ts';
import type { Logger, LogLevel } from '../lib/logger.ts';
import { FolderGauge } from '../usage/allocated.ts';
import { Activity } from './activity.ts';
import { withDotEnv } from './environment.ts';
import { addressOf, type HandlerParts, handlersFor } from './handlers.ts';
import { LOCAL_FOLDER, LocalExchange } from './local.ts';
import { type ExeUnitLog, openLog } from './log.ts';
import { Meter, UsageLimitError } from './meter.ts';
import type { ExeUnitOptions } from './options.ts';
import { Reporter } from './reporter.ts';
import { Ending, endActivity, endInTime, watchProcess } from './shutdown.ts';
import { readTask, type Task } from './task.ts';
import { everySecond } from './ticks.ts';
import type { ActivityRuntime, ScriptCommand } from './types.ts';
import { VmRuntime } from './vm-runtime.ts';

type Environment = Readonly<Record<string, string | undefined>>;

export interface ExeUnitHost {
  env: Environment;
  /** Whether standard error is a terminal. */
  terminal: boolean;
  /** `--log-level` and `--log-file`. */
  logLevel?: LogLevel;
  logFile?: string;
  /** What runs the commands, instead of a VM; for tests and the bench. */
  runtime?(task: Task, logger: Logger, bus: Gsb | null): ActivityRuntime;
}

/** Where the activity's own files lie in its work folder; removed at its end. */
const OWN_FOLDER = '.ya-vm';
/** Seconds between two lines of the log about what is used. */
const USAGE_LOGGED_EACH = 30;

/**
 * Runs an activity until it is told to end. @returns the exit code: 0, also of one that ended with an error.
 * @throws {YavmError} why it could not start; the node was told, when there is one.
 */
export async function runExeUnit(options: ExeUnitOptions, host: ExeUnitHost): Promise<number> {
  const { activityId } = options;
  const started = deferred<void>();
  const log = openLog({ ...host, folder: process.cwd(), activityId, after: started.promise });
  const ending = new Ending();
  const unwatch = watchProcess(ending, log.logger);
  try {
    const env = withDotEnv(host.env, process.cwd());
    const task = await readTask(options);
    for (const warning of options.warnings) log.logger.warn(warning);
    await supervise({ options, host: { ...host, env }, log, ending, task, started: started.resolve });
    return 0;
  } catch (error) {
    log.logger.error({ err: toError(error) }, 'the activity cannot start');
    started.resolve();
    await reportFailure(options, host.env, error, log.logger);
    throw error;
  } finally {
    started.resolve();
    unwatch();
    await log.logger.close();
  }
}

interface Parts {
  options: ExeUnitOptions;
  host: ExeUnitHost;
  log: ExeUnitLog;
  ending: Ending;
  task: Task;
  /** To be called when the first state was reported. */
  started(): void;
}

async function supervise({ options, host, log, ending, task, started }: Parts): Promise<void> {
  const { logger } = log;
  const { activityId, reportUrl } = options;
  const id = activityId ?? randomBytes(16).toString('hex');
  const gsb = activityId === undefined ? null : connect(host.env, logger);
  const runtime = host.runtime?.(task, logger, gsb) ?? vmRuntime(id, gsb, { options, host, log, task });
  const meter = meterFor(task, options, runtime);
  const takeUsage = () => usageOrEnd(meter, ending);

  const reporter =
    gsb && activityId !== undefined && reportUrl !== undefined
      ? new Reporter({ gsb, activityId, reportUrl, usage: takeUsage, logger })
      : null;
  const own = join(task.workFolder, OWN_FOLDER);
  const activity = new Activity({
    id,
    folder: own,
    runtime,
    rules: task.rules,
    reportState: async (pair) => await reporter?.state(pair),
    logger,
  });
  const paced = host.env[LOCAL_FOLDER] !== undefined;
  if (gsb) bindAll(gsb, { id, activity, ending, logger, paced, usage: () => vectorFor(meter) });
  const initialized = activity.initialized();
  const stopTicks = everySecond(ticker(reporter, takeUsage, meter, logger));
  gsb?.onState((state, error) => {
    if (state === 'closed') ending.ask(lostBus(reportUrl, error));
  });
  // A node that does not answer must not keep a signal waiting.
  await Promise.race([initialized, ending.reason]);
  started();
  logger.info({ agreement: task.agreement.id, vector: task.agreement.usageVector }, 'initialized');
  if (task.script) runScript(activity, task.script, ending);

  const why = await ending.reason;
  if (ending.foreign) reporter?.silence();
  // What the VM takes right now may be its peak.
  meter.finalValues();
  const inTime = await endInTime(
    endActivity(why, {
      activity,
      reporter,
      kill: () => runtime.stop(0),
      leave: async () => await gsb?.close(),
      logger,
    }),
  );
  stopTicks();
  if (!inTime) logger.error('the end took too long; what is left ends with this process');
  removeFolder(own, logger);
  logger.info({ used: meter.current() }, 'the activity has ended');
}

/** The script of from-file, as one batch with an id as requestors make them. One that is not allowed ends the activity. */
function runScript(activity: Activity, script: readonly ScriptCommand[], ending: Ending): void {
  try {
    activity.exec(randomBytes(16).toString('hex'), script);
  } catch (error) {
    ending.ask(describeError(error));
  }
}

function removeFolder(folder: string, logger: Logger): void {
  try {
    rmSync(folder, { recursive: true, force: true });
  } catch (error) {
    logger.warn({ err: toError(error), folder }, 'not everything could be removed');
  }
}

/** The VM of the agreement. Nothing of it is loaded yet. */
function vmRuntime(
  id: string,
  bus: Gsb | null,
  { options, host, log, task }: Omit<Parts, 'ending' | 'started'>,
): VmRuntime {
  const localFolder = host.env[LOCAL_FOLDER];
  return new VmRuntime({
    taskPackage: task.taskPackage,
    limits: task.agreement.limits,
    cacheFolder: task.cacheFolder,
    diskFolder: task.workFolder,
    stagingFolder: join(task.workFolder, OWN_FOLDER, 'staged'),
    bus,
    networkTerms: { capabilities: task.agreement.capabilities, outbound: task.outbound },
    requestorId: task.agreement.requestorId ?? null,
    gsbUrl: bus === null ? null : formatGsbUrl(parseGsbUrl(host.env.GSB_URL)),
    allowFiles: task.script !== null || host.env.YA_VM_LOCAL_IMAGES === '1',
    accel: options.accel,
    gpu: options.gpu,
    title: `activity ${id}`,
    env: host.env,
    logger: log.logger,
    hide: (values) => log.redactor.add(values),
    local: localFolder === undefined ? undefined : new LocalExchange(localFolder),
  });
}

function connect(env: Environment, logger: Logger): Gsb {
  return connectGsb({ address: parseGsbUrl(env.GSB_URL), logger });
}

// ---------------------------------------------------------------- usage

function meterFor({ agreement, workFolder }: Task, options: ExeUnitOptions, runtime: ActivityRuntime): Meter {
  const gauge = new FolderGauge(workFolder);
  return new Meter({
    names: agreement.usageVector,
    limits: options.limitsWatched ? agreement.limits : null,
    read: () => runtime.usage(),
    folder: () => gauge.bytes,
  });
}

/** The vector for a report. A limit that was passed ends the activity, and is the end of such reports but the last. */
function usageOrEnd(meter: Meter, ending: Ending): number[] | null {
  if (ending.asked) return meter.finalValues();
  try {
    return meter.values();
  } catch (error) {
    if (!(error instanceof UsageLimitError)) throw error;
    ending.ask(`Usage limit exceeded: ${error.message}`);
    return null;
  }
}

/** The vector for who asks for it. @throws {RpcError} usageLimitExceeded */
function vectorFor(meter: Meter): number[] {
  try {
    return meter.values();
  } catch (error) {
    if (error instanceof UsageLimitError) throw new RpcError('usageLimitExceeded', error.message);
    throw error;
  }
}

/** What is done each second. */
function ticker(
  reporter: Reporter | null,
  takeUsage: () => number[] | null,
  meter: Meter,
  logger: Logger,
): () => void {
  let ticks = 0;
  return () => {
    if (reporter) void reporter.usage();
    else takeUsage();
    if (++ticks % USAGE_LOGGED_EACH === 0) logger.debug({ used: meter.current() }, 'usage');
  };
}

// ---------------------------------------------------------------- bus

interface BindParts extends Omit<HandlerParts, 'activityId'> {
  id: string;
  ending: Ending;
}

/** Registers the six names. Nobody waits for them: the state is reported in the same breath. */
function bindAll(gsb: Gsb, { id, ending, ...parts }: BindParts): void {
  for (const [message, binding] of Object.entries(handlersFor({ ...parts, activityId: id }))) {
    gsb.bind(`${addressOf(id)}/${message}`, binding).catch((error) => {
      // At the end the bus is left, and with it every name that was still waited for.
      if (!ending.asked)
        ending.ask(describeError(error), { foreign: isYavmError(error, 'YAVM_E_GSB_TAKEN') });
    });
  }
}

function lostBus(reportUrl: string | undefined, error: Error | undefined): string {
  const what =
    reportUrl === undefined ? 'the bus is gone' : `Reporting endpoint '${reportUrl}' is not available`;
  return `Runtime error: ${what}${error ? `: ${describeError(error)}` : ''}`;
}

/** For the bus to take and answer the one report of an activity that never was, milliseconds. */
const FAILURE_REPORTED = 3000;

/** Tells the node why the activity does not start: its requestor would wait for its whole time-out otherwise. */
async function reportFailure(
  { activityId, reportUrl }: ExeUnitOptions,
  env: Environment,
  error: unknown,
  logger: Logger,
): Promise<void> {
  if (activityId === undefined || reportUrl === undefined) return;
  let gsb: Gsb | null = null;
  try {
    gsb = connectGsb({ address: parseGsbUrl(env.GSB_URL), logger, firstFor: FAILURE_REPORTED });
    const reporter = new Reporter({ gsb, activityId, reportUrl, usage: () => null, logger });
    reporter.hurry(FAILURE_REPORTED);
    const errorMessage = describeError(error);
    await reporter.state(['Terminated', null], { reason: 'the activity cannot start', errorMessage });
    reporter.close();
  } catch (failure) {
    logger.warn({ err: toError(failure) }, 'nobody was told');
  } finally {
    await gsb?.close();
  }
}
