/** A VM as what the runtime API drives. */
import { sleep } from '../lib/deadline.ts';
import { YavmError } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';
import type { CommandResult, CommandSpec } from '../runtime/types.ts';
import type { Vm } from '../runtime/vm.ts';
import type { ImageDefaults } from './deployment.ts';
import type { Endpoints } from './endpoint.ts';
import type { ApiRequestOf, Endpoint } from './messages.ts';
import { type NetworkState, planNetwork } from './networks.ts';
import type { ApiProcess, ApiRuntime, ProcessEnd, ProcessSinks } from './server.ts';

/** What of a VM is used. */
export type ApiVm = Pick<Vm, 'run' | 'network' | 'stop' | 'kill' | 'ended'>;

/** The networks of a VM as it starts, and what the supervisor is told of each. */
export interface ApiNetworks {
  state: NetworkState;
  answers: Endpoints<Endpoint>;
}

/** Processes have this long between TERM and KILL, and all of the stop this long, milliseconds: the supervisor waits 5 s. */
const GRACE = 500;
const STOP = 3000;
const SIGKILL = 9;

/** The command of a run request, with what the image says. */
export function planRun(
  { bin, args, workDir }: Pick<ApiRequestOf<'run'>, 'bin' | 'args' | 'workDir'>,
  image: ImageDefaults,
): CommandSpec {
  const [name, ...rest] = args;
  const spec: CommandSpec = {
    argv: [bin, ...rest],
    env: image.env,
    cwd: workDir || image.workingDir || '/',
  };
  if (name !== undefined && name !== bin) spec.argv0 = name;
  if (image.user) spec.user = image.user;
  return spec;
}

/**
 * The image's own program, for `start-entrypoint`.
 * @throws {YavmError} YAVM_E_NO_ENTRYPOINT when the image names none
 */
export function planEntrypoint(image: ImageDefaults): CommandSpec {
  const [bin, ...rest] = [...image.entrypoint, ...image.cmd];
  if (!bin) {
    throw new YavmError('YAVM_E_NO_ENTRYPOINT', 'the image has neither Entrypoint nor Cmd');
  }
  const name = bin.slice(bin.lastIndexOf('/') + 1);
  return planRun({ bin, args: [name, ...rest], workDir: '' }, image);
}

export function vmApi(
  vm: ApiVm,
  image: ImageDefaults,
  { state, answers }: ApiNetworks,
  logger: Logger,
): ApiRuntime {
  let networks = state;
  let stopping: Promise<void> | null = null;
  return {
    ended: vm.ended.then(({ error }) => error),
    run: (request, sinks) => startProcess(vm, planRun(request, image), sinks),
    async network(request) {
      const next = planNetwork(networks, request);
      await vm.network(next.spec);
      // Only now: what the guest refused is not to come again with the next request.
      networks = next.state;
      return answers[request.interface] as Endpoint;
    },
    stop() {
      stopping ??= stopInTime(vm, logger);
      return stopping;
    },
  };
}

/** Starts a command whose output goes to `sinks`. */
export async function startProcess(vm: ApiVm, spec: CommandSpec, sinks: ProcessSinks): Promise<ApiProcess> {
  const command = await vm.run(spec, sinks);
  return {
    pid: command.pid,
    ended: command.result.then(endOf),
    signal: (signal) => command.signal(signal, { tree: signal === SIGKILL }),
  };
}

function endOf({ exitCode, complete }: CommandResult): ProcessEnd {
  if (complete) return { returnCode: exitCode };
  return { returnCode: exitCode, remark: 'the output is not complete (YAVM_E_OUTPUT_INCOMPLETE)' };
}

/** In order, unless that takes too long. Nothing of the VM's disk outlives it. */
async function stopInTime(vm: ApiVm, logger: Logger): Promise<void> {
  const late = new AbortController();
  const stopped = vm.stop({ grace: GRACE }).then(() => true);
  const inTime = await Promise.race([stopped, sleep(STOP, late.signal).then(() => false)]);
  late.abort();
  if (inTime) return;
  logger.warn(`the VM does not end within ${STOP / 1000} s: it is killed`);
  await vm.kill();
}
