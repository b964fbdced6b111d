/**
 * A supervisor's process, started as ya-provider does, to the letter where a supervisor could notice (exe-unit.md 3.4):
 * words, folders, session, standard streams.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { makeFolders } from '../lib/make-folders.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** Where supervisors report to: the `REPORT_URL` of their command line. */
export const REPORT_ADDRESS = '/local/activity';

export interface SupervisorPlan {
  /** What a descriptor's `supervisor-path` names, with words that come first. */
  program: readonly [file: string, ...words: string[]];
  /** A descriptor's `extra-args`. Default `--cap-handoff`, as ya-runtime-vm's has. */
  extraArgs?: readonly string[];
  /** Of the bus, in the environment of the supervisor. */
  gsbUrl: string;
  /** `work/<agreement>/<activity>` is made below it. */
  folder: string;
  /** Of images; all activities share it. */
  cacheFolder: string;
  /** Passed on; default this process's. */
  env?: Environment;
}

/** How a supervisor's process ended: one of them is null. */
export interface ProcessEnd {
  code: number | null;
  signal: NodeJS.Signals | null;
}

/** An activity's name, and where its files are. */
export interface ActivityPlace {
  activity: string;
  agreementId: string;
  /** The supervisor's current directory. */
  workFolder: string;
  /** Read when it starts. */
  agreementFile: string;
}

export interface SupervisorProcess {
  readonly place: ActivityPlace;
  readonly child: ChildProcess;
  /** Resolves when the process has ended. */
  readonly ended: Promise<ProcessEnd>;
  /** Why it never came to be; null: it did. */
  failure(): Error | null;
  /** Lets one that {@link spawnSupervisor} made wait begin: what it reads at its start is there. */
  go(): void;
}

/** Makes an activity's folders. `activity`: default a random one, 32 hexadecimal digits. */
export function makeActivityPlace(
  { folder, cacheFolder }: Pick<SupervisorPlan, 'folder' | 'cacheFolder'>,
  agreementId: string,
  activity = randomUUID().replaceAll('-', ''),
): ActivityPlace {
  const agreementFolder = join(folder, 'work', agreementId);
  const workFolder = join(agreementFolder, activity);
  for (const each of [workFolder, cacheFolder]) makeFolders(each);
  return { activity, agreementId, workFolder, agreementFile: join(agreementFolder, 'agreement.json') };
}

/**
 * Starts a supervisor. Never throws: what fails is in `ended` and `failure`.
 * @param waits its standard input is open until `go`; a supervisor of `ya-vm run` begins when it ends
 */
export function spawnSupervisor(
  place: ActivityPlace,
  { program: [file, ...words], extraArgs = ['--cap-handoff'], gsbUrl, cacheFolder, env }: SupervisorPlan,
  waits = false,
): SupervisorProcess {
  const argv = [
    ...[...words, ...extraArgs, 'service-bus', place.activity, REPORT_ADDRESS],
    ...['-c', cacheFolder, '-w', place.workFolder, '-a', place.agreementFile],
  ];
  const child = spawn(file, argv, {
    cwd: place.workFolder,
    env: { ...(env ?? process.env), GSB_URL: gsbUrl },
    stdio: [waits ? 'pipe' : 'ignore', 'ignore', 'ignore'],
    // setsid(): a session and a process group of its own.
    detached: true,
  });
  // Of one that is gone, `ended` tells.
  child.stdin?.on('error', () => {});
  let failed: Error | null = null;
  const ended = new Promise<ProcessEnd>((resolve) => {
    child.once('error', (error) => {
      failed = error;
      // It never came to be; there is no exit then.
      if (child.pid === undefined) resolve({ code: null, signal: null });
    });
    child.once('exit', (code, signal) => resolve({ code, signal }));
  });
  return { place, child, ended, failure: () => failed, go: () => void child.stdin?.end() };
}
