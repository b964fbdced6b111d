/** `start`: boots what was deployed, and serves the runtime API until the supervisor has enough. */
import { basename } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import type { MountSpec } from '../../guest/protocol/messages.ts';
import type { HostNative } from '../../native/host-face.ts';
import { toError } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';
import type { NicBackend } from '../network/types.ts';
import type { AccelChoice, BootAssets, VmSpec } from '../runtime/types.ts';
import { type Deployment, readDeployment } from './deployment.ts';
import {
  type Endpoints,
  type EndpointUrl,
  formatEndpoint,
  type OpenEndpoint,
  openEndpoints,
} from './endpoint.ts';
import { bareLinks, noNetworks } from './networks.ts';
import { ApiServer, type ServeEnd } from './server.ts';
import { type ApiNetworks, type ApiVm, planEntrypoint, startProcess, vmApi } from './vm-api.ts';
import { sharesOf } from './volumes.ts';

export interface StartOptions {
  workFolder: string;
  /** Words behind `start`; `start-entrypoint` is the one with a meaning. */
  args: readonly string[];
  assets: BootAssets;
  accel: AccelChoice;
  /** Each makes a NIC of the VM. */
  endpoints: Endpoints<EndpointUrl>;
  native: HostNative;
  input: Readable;
  output: Writable;
  version: string;
  logger: Logger;
  /** Ends everything. */
  signal: AbortSignal;
  /** `nics`: for the links of `spec.network`, in their order; taken over. */
  boot: (spec: VmSpec, nics: NicBackend[], signal: AbortSignal) => Promise<ApiVm>;
}

const ENTRYPOINT_WORD = 'start-entrypoint';

/**
 * The answer to hello says that the VM is up: requests wait until then.
 * @throws what keeps the VM from starting; it is gone then
 */
export async function start(options: StartOptions): Promise<ServeEnd> {
  const { input, output, version, logger } = options;
  const deployment = readDeployment(options.workFolder);
  const entrypoint = options.args.includes(ENTRYPOINT_WORD) ? planEntrypoint(deployment.config) : null;
  const server = new ApiServer({ input, output, version, logger });
  const gone = new AbortController();
  void server.abandoned.then(() => gone.abort(new Error('the supervisor is gone')));
  const signal = AbortSignal.any([options.signal, gone.signal]);
  let vm: ApiVm;
  let networks: ApiNetworks;
  try {
    const open = await openEndpoints(options.endpoints, options.native, signal);
    networks = networksOf(open);
    logEndpoints(options.endpoints, networks, logger);
    const spec = { ...vmSpecOf(deployment, options), network: { links: bareLinks(networks.state) } };
    vm = await options.boot(
      spec,
      [open.vpn, open.inet].flatMap((each) => (each ? [each.nic] : [])),
      signal,
    );
  } catch (error) {
    if (!signal.aborted) throw error;
    logger.info({ err: toError(error) }, 'the start was given up');
    return { reason: options.signal.aborted ? 'interrupted' : 'input-closed' };
  }
  const runtime = vmApi(vm, deployment.config, networks, logger);
  try {
    if (entrypoint) await startEntrypoint(server, vm, entrypoint, logger);
  } catch (error) {
    await runtime.stop();
    throw error;
  }
  return await server.serve(runtime, options.signal);
}

function networksOf({ vpn, inet }: Endpoints<OpenEndpoint>): ApiNetworks {
  return {
    state: noNetworks({ vpn: vpn?.nic.kind, inet: inet?.nic.kind }),
    answers: { vpn: vpn?.answer, inet: inet?.answer },
  };
}

function logEndpoints(urls: StartOptions['endpoints'], { answers }: ApiNetworks, logger: Logger): void {
  for (const name of ['vpn', 'inet'] as const) {
    const url = urls[name];
    if (url)
      logger.info(
        { network: name, supervisor: formatEndpoint(url), ours: answers[name] },
        'a network is open',
      );
  }
}

/** An ordinary process; what it writes belongs to the start. */
async function startEntrypoint(
  server: ApiServer,
  vm: ApiVm,
  spec: ReturnType<typeof planEntrypoint>,
  logger: Logger,
): Promise<void> {
  const process = await startProcess(vm, spec, server.startSinks);
  process.ended.then(
    ({ returnCode }) => logger.info({ returnCode }, "the image's entrypoint ended"),
    (error) => logger.info({ err: toError(error) }, "the image's entrypoint ended with the VM"),
  );
  const command = [...spec.argv];
  await server.announce(JSON.stringify({ start: null, entrypoint: { pid: process.pid, command } }));
}

export function vmSpecOf(
  deployment: Deployment,
  { assets, accel, workFolder }: Pick<StartOptions, 'assets' | 'accel' | 'workFolder'>,
): VmSpec {
  const { layers, root, memoryMiB, cpus, hostname, mounts, disks, volumes } = deployment;
  const title = `runtime: ${basename(layers[0] as string)}`;
  const shares = sharesOf(workFolder, volumes);
  // Where its commands begin need not be in the image; docker makes it, too. Last, so that it may lie in a volume.
  const home = deployment.config.workingDir ?? '/';
  const all: MountSpec[] = home === '/' ? mounts : [...mounts, { kind: 'directory', path: home }];
  return { assets, layers, root, memoryMiB, cpus, hostname, accel, mounts: all, disks, shares, title };
}
