/** An activity of this host's own: an embedded node on a private socket, and this very program as its supervisor. */
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Native } from '../../native/face.ts';
import { loadNative } from '../../native/load.ts';
import type { Logger } from '../lib/logger.ts';
import { packedIndex } from '../lib/packed.ts';
import { cacheFolder, runBase } from '../lib/paths.ts';
import { ActivityHost, type AgreementTerms, LocalNode, type RunningActivity } from '../node/index.ts';
import { cleanUp } from '../runtime/janitor.ts';
import { createRunFolder } from '../runtime/run-folder.ts';
import type { AccelChoice } from '../runtime/types.ts';
import type { Context } from './context.ts';
import { manifestFor, type Outbound } from './net-manifest.ts';

export interface LocalActivityOptions {
  /** `hash:sha3:…` of a server's image, or `file:` of a local one; see {@link localImage}. None: `env` says more. */
  taskPackage?: string;
  memoryMiB: number;
  cpus: number;
  /** Bytes. */
  storage: number;
  accel: AccelChoice;
  /** What its manifest lets out; none: nothing. */
  outbound?: Outbound;
  /** Work folder's parent; default a fresh folder in the cache, which is removed with the activity. */
  folder?: string;
  /** Of images; default ya-vm's own. */
  cacheFolder?: string;
  /** What starts the supervisor; default this program. */
  program?: readonly [string, ...string[]];
  /** More environment of the supervisor, which may name `folder`: private, and removed with the activity. */
  environment?(folder: string): Record<string, string>;
  signal: AbortSignal;
}

export interface LocalActivity {
  readonly node: LocalNode;
  readonly activity: RunningActivity;
  /** Ends the supervisor and the node, and removes what was made for them. */
  close(): Promise<void>;
}

/** Counters of the agreement: all that a supervisor counts by itself, but for networks. */
export const USAGE_VECTOR = [
  'golem.usage.duration_sec',
  'golem.usage.cpu_sec',
  'golem.usage.gib',
  'golem.usage.storage_gib',
  'ya-vm.usage.shared_gib',
] as const;

const REQUESTOR = `0x${'0'.repeat(39)}2`;
const MIB_PER_GIB = 1024;
const BYTES_PER_GIB = 1024 ** 3;

/** A task package that is a file of this host. Supervisors take it from {@link startLocalActivity} only. */
export function localImage(path: string): string {
  return pathToFileURL(resolve(path)).href;
}

/** Resolves when the activity is Initialized. Rejects with nothing left but the supervisor's log, where there is one. */
export async function startLocalActivity(
  context: Pick<Context, 'env' | 'log'>,
  options: LocalActivityOptions,
): Promise<LocalActivity> {
  const { env, log } = context;
  const native = loadNative();
  const folder = createRunFolder(runBase(env), native);
  const place = placeFor(options, env, native, log);
  const remove = () => {
    folder.remove();
    place.remove();
  };
  let node: LocalNode | undefined;
  try {
    node = await LocalNode.start({
      address: { kind: 'unix', path: join(folder.path, 'gsb.sock') },
      logger: log,
    });
    const host = new ActivityHost({
      program: options.program ?? ownProgram(),
      extraArgs: ['--cap-handoff', '--accel', options.accel],
      service: node.service,
      gsbUrl: node.url,
      folder: place.path,
      cacheFolder: options.cacheFolder ?? join(cacheFolder(env), 'images'),
      // The image's path comes from this command line, not from a requestor.
      env: { ...withWholePaths(env), YA_VM_LOCAL_IMAGES: '1', ...options.environment?.(folder.path) },
      logger: log,
    });
    const activity = await host.start({ agreement: termsFor(options, node), signal: options.signal });
    const started = { node, activity };
    return {
      ...started,
      async close() {
        await started.activity.stop();
        await started.node.close();
        remove();
      },
    };
  } catch (error) {
    await node?.close();
    // Else the log in it says why, and the error where it is.
    if (options.signal.aborted) remove();
    else folder.remove();
    throw error;
  }
}

/** Variables that name files and folders. */
const PATHS = ['YAVM_ASSETS', 'YAVM_DISK_DIR', 'YA_VM_TEMPLATES', 'YA_VM_KERNEL_KEY', 'YA_VM_DRIVER_LAYER'];

/** The supervisor works in a folder of its own: what is meant from this one would be another file there. */
export function withWholePaths(env: Context['env']): Context['env'] {
  const whole = PATHS.flatMap((name) => (env[name] ? [[name, resolve(env[name])]] : []));
  return { ...env, ...Object.fromEntries(whole) };
}

/** Where the work folder lies: as asked, or in a folder that goes with us; those of killed ones are removed first. */
function placeFor(
  { folder }: LocalActivityOptions,
  env: Context['env'],
  native: Native,
  log: Logger,
): { path: string; remove(): void } {
  if (folder !== undefined) return { path: resolve(folder), remove() {} };
  const base = join(cacheFolder(env), 'activities');
  cleanUp(base, native, log);
  return createRunFolder(base, native);
}

function termsFor(options: LocalActivityOptions, node: LocalNode): AgreementTerms {
  return {
    requestorId: REQUESTOR,
    providerId: node.identity.nodeId,
    usageVector: USAGE_VECTOR,
    limits: {
      memoryGib: options.memoryMiB / MIB_PER_GIB,
      storageGib: options.storage / BYTES_PER_GIB,
      cores: options.cpus,
    },
    taskPackage: options.taskPackage,
    capabilities: ['vpn'],
    manifest: options.outbound && manifestFor(options.outbound, new Date()),
  };
}

/** This process's Node with its options, and its script; or the single program, which has them in it. */
function ownProgram(): [string, ...string[]] {
  if (packedIndex() !== null) return [process.execPath];
  return [process.execPath, ...process.execArgv, process.argv[1] ?? ''];
}

/** The last vector that an activity reported: names and values in the agreement's order. */
export function usageOf({ record }: RunningActivity): (readonly [name: string, value: number])[] {
  return (record?.usage ?? []).map((value, index) => [USAGE_VECTOR[index] ?? String(index), value] as const);
}
