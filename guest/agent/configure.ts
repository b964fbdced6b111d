/** `configure`: from a VM that knows its shape to a task's VM. The steps, in order, each timed. */
import { applyIdentity } from '../boot/identity.ts';
import { bindDevices } from '../boot/late-drivers.ts';
import { mountAgent, mountTask } from '../boot/mounts.ts';
import { renew } from '../boot/renew.ts';
import { buildRoot, enterRoot, type TaskRoot } from '../boot/root.ts';
import { mountVolumes } from '../boot/volumes.ts';
import { GuestError } from '../errors.ts';
import { setUpGpus } from '../gpu/set-up.ts';
import { TaskNetwork } from '../net/configure.ts';
import { CgroupTree } from '../process/cgroup.ts';
import { Commands } from '../process/commands.ts';
import { Reaper } from '../process/reaper.ts';
import { UserDatabase } from '../process/users.ts';
import type { ConfigureRequest, Ready } from '../protocol/messages.ts';
import type { Agent, Task } from './agent.ts';
import { followDevices, loadRequested } from './drivers.ts';
import { runHook } from './hooks.ts';
import { followKernelLog } from './kernel-log.ts';
import { memoryInfo } from './stats.ts';

/**
 * Of the memory that is free at configure, what commands may not take, bytes: room for the pumps (the agent has 2 MiB
 * idle, 8 at work), and for what the kernel holds for commands without counting it to them (3 KiB a task). Measured from
 * what is free, not from the total: the kernel's own share grows with the VM, and a limit beyond what there is never acts.
 */
const RESERVED_MEMORY = 16 * 1024 * 1024;

/** Carries out the host's description of this VM. Happens once; a failure leaves a VM that can only be shut down. */
export async function configure(agent: Agent, request: ConfigureRequest): Promise<Ready> {
  if (agent.configuring) throw new GuestError('already-configured', 'this VM has been configured before');
  agent.configuring = true;
  if (request.logLevel) agent.log.setLevel(request.logLevel);
  const { native, modules } = agent;
  const clock = new StepClock(() => native.monotonic());

  await clock.time('clock and entropy', () => renew(native, request));
  if (!agent.prepared) await clock.time('kernel file systems', () => mountAgent(native));
  // Before anything loads: options hold for modules that come after them.
  if (request.modules) modules.configure(request.modules);
  if (agent.prepared) await clock.time('devices', () => bindDevices(native, request.slots));
  await agent.begun;
  await runHook(agent, 'beforeMounts');
  const root = await clock.time('root', () => buildRoot({ native, modules }, request));
  await clock.time('task file systems', () => mountTask(native, root.fd));
  await clock.time('volumes', () => mountVolumes({ native, modules }, root, request.mounts ?? []));
  // Before drivers load by what devices say of themselves: NVIDIA's take their parameters and their order from here.
  const gpus = request.gpu && (await clock.time('gpu', () => prepareGpus(agent, root, request)));
  await clock.time('enter root', () => enterRoot(native, root));
  const network = new TaskNetwork({
    native,
    rootFd: root.fd,
    hostname: request.hostname,
    loopbackUp: agent.prepared !== null,
    loadDrivers: () => modules.loadFor('nics'),
  });
  await clock.time('identity', () => applyIdentity(native, root.fd, request.hostname));
  await clock.time('network', () => network.apply(request.network ?? {}));
  if (request.modules || request.gpu) await clock.time('modules', () => loadRequested(agent, request));
  await clock.time('commands', () => agent.begin(prepareTask(agent, root, network, request.memoryLimit)));
  await runHook(agent, 'afterConfigure');
  // Nothing waits for these: they load when the host has its answer.
  setTimeout(() => void followDevices(agent), 0);
  return gpus ? { steps: clock.steps, gpus } : { steps: clock.steps };
}

function prepareGpus(
  { native, modules, log }: Agent,
  root: TaskRoot,
  { gpu, modules: set }: ConfigureRequest,
) {
  const request = { ...gpu, nvidiaParameters: set?.options?.nvidia };
  return setUpGpus({ native, modules }, root.fd, request, (text) => log.warn(text));
}

/** What runs commands: the reaper, their cgroups with one bound for all, and the watch on the kernel's log. */
function prepareTask(
  agent: Agent,
  root: TaskRoot,
  network: TaskNetwork,
  memoryLimit: number | undefined,
): Task {
  const { native, log, session } = agent;
  const cgroups = agent.prepared?.cgroups ?? new CgroupTree(native);
  cgroups.limitMemory(memoryLimit ?? commandMemory(memoryInfo(native).available));
  cgroups.prepare();
  const reaper = new Reaper(native);
  const users = new UserDatabase(native, root.fd);
  const context = { native, dataChannel: agent.dataChannel, rootFd: root.fd, users, cgroups, reaper };
  const commands = new Commands(context, (event) => session.notify(event));
  reaper.onBatch = () => commands.sweep();
  reaper.start();
  // At each out-of-memory kill it would fill the kernel's log, which is followed here, with a line for every process.
  native.writeText(-1, '/proc/sys/vm/oom_dump_tasks', '0');
  followKernelLog(
    native,
    ({ text }) => log.warn(text, { source: 'kernel' }),
    (cgroup) => {
      const command = commands.findByCgroup(cgroup);
      if (!command || command.ended) return;
      session.notify({
        event: 'out-of-memory',
        process: command.id,
        kills: command.cgroup.figures().outOfMemoryKills,
      });
    },
  );
  return { root, network, commands, cgroups, reaper, transfers: new Map() };
}

/** What commands may take of `available` bytes: in a VM that is very small, half. */
function commandMemory(available: number): number {
  return Math.max(available - RESERVED_MEMORY, available / 2);
}

/** Runs steps and keeps how long each took. */
class StepClock {
  readonly steps: Ready['steps'] = [];
  readonly #now: () => number;

  constructor(now: () => number) {
    this.#now = now;
  }

  async time<T>(name: string, step: () => T | Promise<T>): Promise<T> {
    const begun = this.#now();
    const result = await step();
    this.steps.push({ name, milliseconds: this.#now() - begun });
    return result;
  }
}
