/** An activity of this host's own: an embedded node on a private socket, and this very program as its supervisor. */
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ActivityHost, type AgreementTerms, LocalNode, type RunningActivity } from '../node/index.ts';
import type { Context } from './context.ts';
import { manifestFor, type Outbound } from './net-manifest.ts';
import { makePlaces, type PlaceOptions, type Standing, supervisorPlan } from './stand-by.ts';

export interface LocalActivityOptions extends PlaceOptions {
  /** `hash:sha3:…` of a server's image, or `file:` of a local one; see {@link localImage}. None: `env` says more. */
  taskPackage?: string;
  memoryMiB: number;
  cpus: number;
  /** Bytes. */
  storage: number;
  /** What its manifest lets out; none: nothing. */
  outbound?: Outbound;
  /** Its supervisor, when that was started before; it is taken. */
  standing?: Standing;
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
  const { log } = context;
  const { standing } = options;
  if (standing) standing.taken = true;
  const places = standing?.places ?? makePlaces(context, options);
  const remove = () => {
    places.run.remove();
    places.work.remove();
  };
  let node: LocalNode | undefined;
  try {
    node = await LocalNode.start({ address: { kind: 'unix', path: places.socket }, logger: log });
    const host = new ActivityHost({
      ...supervisorPlan(context, options, places),
      service: node.service,
      logger: log,
    });
    const activity = await host.start({
      agreement: termsFor(options, node),
      standing: standing?.supervisor,
      signal: options.signal,
    });
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
    standing?.supervisor.child.kill('SIGKILL');
    await standing?.supervisor.ended;
    // Else the log in it says why, and the error where it is.
    if (options.signal.aborted) remove();
    else places.run.remove();
    throw error;
  }
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

/** The last vector that an activity reported: names and values in the agreement's order. */
export function usageOf({ record }: RunningActivity): (readonly [name: string, value: number])[] {
  return (record?.usage ?? []).map((value, index) => [USAGE_VECTOR[index] ?? String(index), value] as const);
}
