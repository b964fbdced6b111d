/**
 * What a local activity is made of before its node: folders, and how its supervisor is started. The supervisor of
 * `ya-vm run` is started first of all and waits: Node takes as long to start as `run` does to get ready.
 */
import { join, resolve } from 'node:path';
import { loadNative } from '../../native/load.ts';
import { LOCAL_FOLDER } from '../exe-unit/local.ts';
import { packedIndex } from '../lib/packed.ts';
import { cacheFolder, runBase } from '../lib/paths.ts';
import { newAgreementId } from '../node/agreement-file.ts';
import {
  makeActivityPlace,
  type SupervisorPlan,
  type SupervisorProcess,
  spawnSupervisor,
} from '../node/supervisor-process.ts';
import { cleanUp } from '../runtime/janitor.ts';
import { createRunFolder } from '../runtime/run-folder.ts';
import type { AccelChoice } from '../runtime/types.ts';
import type { Context } from './context.ts';

type Surroundings = Pick<Context, 'env' | 'log'>;

export interface PlaceOptions {
  accel: AccelChoice;
  /** Work folder's parent; default a fresh folder in the cache, which is removed with the activity. */
  folder?: string;
  /** Of images; default ya-vm's own. */
  cacheFolder?: string;
  /** What starts the supervisor; default this program. */
  program?: readonly [string, ...string[]];
  /** More environment of the supervisor, which may name `folder`: private, and removed with the activity. */
  environment?(folder: string): Record<string, string>;
}

export interface ActivityPlaces {
  /** Private, for the bus and what else the two share. */
  run: { path: string; remove(): void };
  /** What the supervisor works in. */
  work: { path: string; remove(): void };
  /** The bus. */
  socket: string;
}

/** @throws {YavmError} YAVM_E_RUN_FOLDER */
export function makePlaces({ env, log }: Surroundings, { folder }: PlaceOptions): ActivityPlaces {
  const native = loadNative();
  const run = createRunFolder(runBase(env), native);
  const socket = join(run.path, 'gsb.sock');
  if (folder !== undefined) return { run, work: { path: resolve(folder), remove() {} }, socket };
  const base = join(cacheFolder(env), 'activities');
  // Those of killed ones are removed first.
  cleanUp(base, native, log);
  return { run, work: createRunFolder(base, native), socket };
}

/** How the supervisor of an activity in such places is started. */
export function supervisorPlan(
  { env }: Surroundings,
  { accel, program, cacheFolder: images, environment }: PlaceOptions,
  { run, work, socket }: ActivityPlaces,
): SupervisorPlan {
  return {
    program: program ?? ownProgram(),
    extraArgs: ['--cap-handoff', '--accel', accel],
    gsbUrl: `unix:${socket}`,
    folder: work.path,
    cacheFolder: images ?? join(cacheFolder(env), 'images'),
    // The image's path comes from this command line, not from a requestor.
    env: { ...withWholePaths(env), YA_VM_LOCAL_IMAGES: '1', ...environment?.(run.path) },
  };
}

/** A supervisor that waits for its activity. */
export interface Standing {
  places: ActivityPlaces;
  supervisor: SupervisorProcess;
  /** Set by who goes on with it, and ends it. */
  taken: boolean;
  /** Ends one that nobody has taken. */
  end(): Promise<void>;
}

/** Starts the supervisor of a `ya-vm run`. @throws {YavmError} YAVM_E_RUN_FOLDER */
export function standBy(context: Surroundings, options: PlaceOptions): Standing {
  const places = makePlaces(context, options);
  const environment = (folder: string) => ({ [LOCAL_FOLDER]: folder });
  const plan = supervisorPlan(context, { ...options, environment }, places);
  const supervisor = spawnSupervisor(makeActivityPlace(plan, newAgreementId()), plan, true);
  return {
    places,
    supervisor,
    taken: false,
    async end() {
      if (this.taken) return;
      supervisor.child.kill('SIGKILL');
      await supervisor.ended;
      places.run.remove();
      places.work.remove();
    },
  };
}

/** Variables that name files and folders. */
const PATHS = ['YAVM_ASSETS', 'YAVM_DISK_DIR', 'YA_VM_TEMPLATES', 'YA_VM_KERNEL_KEY', 'YA_VM_DRIVER_LAYER'];

/** The supervisor works in a folder of its own: what is meant from this one would be another file there. */
export function withWholePaths(env: Context['env']): Context['env'] {
  const whole = PATHS.flatMap((name) => (env[name] ? [[name, resolve(env[name])]] : []));
  return { ...env, ...Object.fromEntries(whole) };
}

/** This process's Node with its options, and its script; or the single program, which has them in it. */
function ownProgram(): [string, ...string[]] {
  if (packedIndex() !== null) return [process.execPath];
  return [process.execPath, ...process.execArgv, process.argv[1] ?? ''];
}
