/**
 * The activity's runtime: a VM of this process. What boots one is imported when it is needed: an activity that has just
 * been made reports Initialized before any of it is in memory.
 */
import { join } from 'node:path';
import type { CommandHost } from '../attach/port.ts';
import type { AttachServer } from '../attach/server.ts';
import type { ProviderGpu } from '../gpu/options.ts';
import type { Gsb } from '../gsb/index.ts';
import { deferred } from '../lib/deferred.ts';
import { toError, YavmError } from '../lib/errors.ts';
import { bootFiles } from '../lib/kernel-set.ts';
import type { Logger } from '../lib/logger.ts';
import type { Command } from '../runtime/command.ts';
import type { StartOptions } from '../runtime/start-vm.ts';
import type { AccelChoice, BootAssets, CommandSpec, Phase, VmSpec } from '../runtime/types.ts';
import type { Vm } from '../runtime/vm.ts';
import type { Staging } from '../transfer/staging.ts';
import { type Deployment, planEntrypoint, planRun, planVm } from './deployment.ts';
import { LOCAL_TOKEN, type LocalExchange, type LocalStartLine } from './local.ts';
import { Machines } from './machines.ts';
import type { ActivityNetwork } from './network.ts';
import {
  localNetwork,
  type NetworkPlan,
  type NetworkTerms,
  needsNetwork,
  planNetwork,
} from './network-plan.ts';
import { stopVm } from './stop-vm.ts';
import { fetchTaskImage, type TaskImage } from './task-image.ts';
import type {
  ActivityRuntime,
  CommandOf,
  OutputSinks,
  ProgressReport,
  RunEnd,
  RuntimeUsage,
} from './types.ts';
import { defaultEffects, type Effects } from './vm-effects.ts';

type Environment = Readonly<Record<string, string | undefined>>;

type Settled = Deployment & { network: NetworkPlan };

export interface VmRuntimeOptions {
  /** The agreement's or the manifest's image; undefined: there is none. */
  taskPackage: string | undefined;
  /** The agreement's `golem.inf`. */
  limits: Readonly<Record<string, number>>;
  cacheFolder: string;
  /** The root disk takes its room here. */
  diskFolder: string;
  /** For files that wait for the VM; made when there are some. */
  stagingFolder: string;
  /** The bus, for gftp; null: there is none. */
  bus: Pick<Gsb, 'call'> | null;
  /** What the agreement says about networks. */
  networkTerms: Omit<NetworkTerms, 'env'>;
  /** Of the agreement; null: nobody. */
  requestorId: string | null;
  /** The bus's address, for the relay's own connection; null: there is none. */
  gsbUrl: string | null;
  /** Files of this host may be images, and ends of transfers: who wrote the script sits here. */
  allowFiles: boolean;
  accel: AccelChoice;
  /** Cards of the host that the VM gets; default none. */
  gpu?: ProviderGpu;
  /** Shown by `ya-vm ps`. */
  title: string;
  env: Environment;
  logger: Logger;
  /** An activity of `ya-vm run`: the machine and the command are described there. */
  local?: LocalExchange;
  /** Told values that must not be logged. */
  hide(values: string[]): void;
  /** Replaced by tests. */
  effects?: Partial<Effects>;
}

/** The name of the socket in the run folder, for `ya-vm shell`. */
const ATTACH_SOCKET = 'attach.sock';
const NO_TRAFFIC = { networkIn: 0, networkOut: 0 };
/** For a killed command to end, milliseconds. */
const KILLED = 1000;

export class VmRuntime implements ActivityRuntime {
  readonly #options: VmRuntimeOptions;
  readonly #effects: Effects;
  #deployment: Settled | null = null;
  #vm: Vm | null = null;
  /** Nothing of the VM outlives it, and who asked for it has its command's end: it need not end in order. */
  #throwAway = false;
  #image: TaskImage | null = null;
  /** Whether the deployment's start was tried. */
  #started = false;
  /** Files that came before the start. */
  #staging: Staging | null = null;
  #attach: AttachServer | null = null;
  #network: ActivityNetwork | null = null;
  /** Gives up what is under way when the runtime is stopped. */
  #life = new AbortController();
  /** The command of `ya-vm run`, for who takes its stdin and terminal; undefined: it did not start. */
  readonly #adoptable = deferred<Command | undefined>();
  readonly #machines = new Machines();

  constructor(options: VmRuntimeOptions) {
    this.#options = options;
    this.#effects = { ...defaultEffects(options), ...options.effects };
  }

  // ---------------------------------------------------------------- commands

  async deploy(
    command: CommandOf<'deploy'>,
    progress: (report: ProgressReport) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const { taskPackage, logger, hide, local, env } = this.#options;
    this.#started = false;
    if (local) {
      // `run` has checked its images itself.
      this.#deployment = { image: null, config: null, command, network: localNetwork(local.network()) };
      return;
    }
    const until = AbortSignal.any([signal, this.#life.signal]);
    hide(Object.values(command.env));
    const network = planNetwork(command.networks, { ...this.#options.networkTerms, env });
    await this.#checkAccelerator(until);
    const image = taskPackage === undefined ? null : await this.#fetchImage(taskPackage, progress, until);
    try {
      const { path = null, config = null } = image ?? {};
      const deployment: Settled = { image: path, config, command, network };
      // What cannot be built is said now, not after a boot.
      this.#plan(deployment);
      until.throwIfAborted();
      await this.#image?.release();
      this.#image = image;
      this.#deployment = deployment;
    } catch (error) {
      await image?.release();
      throw error;
    }
    logger.info({ image: image?.path }, 'deployed');
  }

  #fetchImage(
    taskPackage: string,
    progress: (report: ProgressReport) => void,
    signal: AbortSignal,
  ): Promise<TaskImage> {
    const { cacheFolder, bus, env, logger, allowFiles: allowFile, hide } = this.#options;
    const options = { taskPackage, cacheFolder, bus, env, logger, signal, progress, allowFile };
    return fetchTaskImage(this.#effects, options, { manifest: this.#assets.manifest, hide });
  }

  async start(command: CommandOf<'start'>, output: OutputSinks, signal: AbortSignal): Promise<void> {
    const deployment = this.#needDeployment();
    this.#started = true;
    const staging = this.#staging;
    this.#staging = null;
    try {
      const entrypoint = command.args.includes('start-entrypoint') ? planEntrypoint(deployment) : null;
      const until = AbortSignal.any([signal, this.#life.signal]);
      const vm = await this.#boot(deployment, output, until);
      await staging?.deliver(vm, until);
      if (entrypoint !== null) await this.#startEntrypoint(vm, entrypoint, output);
    } finally {
      await staging?.clear();
    }
  }

  async #boot(deployment: Settled, output: OutputSinks, until: AbortSignal): Promise<Vm> {
    const { env, logger, local } = this.#options;
    const tell = async (line: LocalStartLine) => {
      if (local) await output.stdout?.(Buffer.from(`${JSON.stringify(line)}\n`));
    };
    const phases: Phase[] = [];
    const onPhase = (phase: Phase) => {
      phases.push(phase);
      logger.debug({ phase: phase.name, milliseconds: phase.milliseconds }, 'boot');
      void tell({ phase });
    };
    const vm = await this.#startVm(deployment, { logger, env, signal: until, onPhase }).catch((error) => {
      local?.putError(error);
      throw error;
    });
    // Stopped while it was coming up.
    if (until.aborted) {
      await vm.kill();
      throw until.reason;
    }
    this.#vm = vm;
    const milliseconds = phases.reduce((sum, phase) => sum + phase.milliseconds, 0);
    logger.info({ vm: vm.id, accel: vm.accel, start: vm.start, milliseconds }, 'the VM is up');
    await this.#openAttach(vm);
    await tell({ vm: { id: vm.id, folder: vm.folder, accel: vm.accel, start: vm.start } });
    return vm;
  }

  /** The network first: no frame of the guest's is lost. It ends with its machine, whatever ends that. */
  async #startVm(deployment: Settled, options: StartOptions): Promise<Vm> {
    const network = await this.#openNetwork(deployment.network, options.signal);
    try {
      options.signal?.throwIfAborted();
      const spec = this.#plan(deployment);
      this.#throwAway = this.#options.local !== undefined && !spec.rootDisk && !spec.shares?.length;
      if (network !== null) spec.network = { ...spec.network, ...network.spec };
      const onVm = (vm: Vm) => this.#count(vm);
      const vm = await this.#effects.startVm(spec, { ...options, ...network?.plugs(), onVm });
      void vm.ended.then(() => network?.close());
      await network?.serve(vm.folder);
      return vm;
    } catch (error) {
      await network?.close();
      throw error;
    }
  }

  async #openNetwork(plan: NetworkPlan, signal: AbortSignal | undefined): Promise<ActivityNetwork | null> {
    if (!needsNetwork(plan)) return null;
    const { gsbUrl, requestorId, env, logger } = this.#options;
    this.#network = await this.#effects.openNetwork(plan, { gsbUrl, requestorId, env, logger, signal });
    return this.#network;
  }

  async run(command: CommandOf<'run'>, output: OutputSinks, signal: AbortSignal): Promise<RunEnd> {
    const { local } = this.#options;
    const planned = local ? local.command() : planRun(this.#needDeployment(), command);
    const spec: CommandSpec = {
      ...planned,
      stdout: output.stdout ? 'pipe' : 'discard',
      stderr: output.stderr ? 'pipe' : 'discard',
    };
    try {
      const running = await this.#needVm().run(spec, {
        stdout: output.stdout ?? undefined,
        stderr: output.stderr ?? undefined,
        signal,
      });
      if (local) this.#adoptable.resolve(running);
      // The signal kills it; its end is waited for, unless the guest does not tell it.
      const result = await Promise.race([running.result, afterAbort(signal)]);
      signal.throwIfAborted();
      local?.putResult(result);
      const { exitCode, outOfMemory, complete } = result;
      return { exitCode, outOfMemory, complete };
    } catch (error) {
      local?.putError(error);
      this.#adoptable.resolve(undefined);
      throw error;
    }
  }

  async transfer(
    command: CommandOf<'transfer'>,
    progress: (report: ProgressReport) => void,
    signal: AbortSignal,
  ): Promise<void> {
    this.#needDeployment();
    const { bus, allowFiles, diskFolder: tempFolder, env, logger } = this.#options;
    await this.#effects.transfer(command, {
      files: this.#started ? this.#needVm() : await this.#stage(),
      bus,
      allowFiles,
      tempFolder,
      env,
      progress,
      signal: AbortSignal.any([signal, this.#life.signal]),
      logger,
    });
  }

  /** Ends the VM and what is on the way to one, all within `milliseconds`, and forgets the deployment. */
  async stop(milliseconds: number): Promise<void> {
    this.#life.abort(new YavmError('YAVM_E_VM_STOPPED', 'the activity was stopped'));
    this.#life = new AbortController();
    this.#deployment = null;
    const [vm, attach, staging, image] = [this.#vm, this.#attach, this.#staging, this.#image];
    this.#vm = this.#attach = this.#staging = this.#image = null;
    await Promise.all([attach?.close(), staging?.clear()]);
    if (vm !== null) {
      // The last look at its memory.
      this.usage();
      await stopVm(vm, this.#throwAway ? 0 : milliseconds);
    }
    // Names on the bus are free before the next deploy asks for them.
    await this.#network?.close();
    await image?.release();
  }

  // ---------------------------------------------------------------- usage

  /** From now on the machine is counted, its boot included. */
  #count(vm: Vm): void {
    const { logger } = this.#options;
    this.#machines.add(vm, ({ reason, error, orderly, cpuSeconds }) => {
      const facts = { vm: vm.id, reason, orderly, cpuSeconds };
      if (error) logger.error({ ...facts, err: error }, 'the VM failed');
      else logger.info(facts, 'the VM ended');
    });
  }

  usage(): RuntimeUsage & { memoryPeak: number } {
    return { ...this.#machines.usage(), ...(this.#network?.usage ?? NO_TRAFFIC) };
  }

  // ---------------------------------------------------------------- parts

  get #assets(): BootAssets {
    return bootFiles(this.#options.env);
  }

  #plan(deployment: Deployment): VmSpec {
    const { limits, accel, diskFolder, title, local, gpu } = this.#options;
    if (local) return local.vm();
    return { ...planVm({ deployment, limits, assets: this.#assets, accel, diskFolder, title }), ...gpu };
  }

  #needDeployment(): Settled {
    if (this.#deployment) return this.#deployment;
    throw new YavmError('YAVM_E_DEPLOY', 'nothing is deployed: the last deploy failed', {
      hint: 'Send terminate, then deploy again.',
    });
  }

  async #stage(): Promise<Staging> {
    this.#staging ??= await this.#effects.staging(this.#options.stagingFolder);
    return this.#staging;
  }

  #needVm(): Vm {
    if (this.#vm) return this.#vm;
    throw new YavmError('YAVM_E_VM_STOPPED', 'no VM runs: the last start failed', {
      hint: 'Send terminate, then deploy and start again.',
    });
  }

  /** Nobody sells a slow CPU unknowingly: without KVM there is no VM, unless emulation was asked for. */
  async #checkAccelerator(signal: AbortSignal): Promise<void> {
    if (this.#options.accel !== 'kvm') return;
    const obstacle = await this.#effects.kvmObstacle(this.#assets, signal);
    if (obstacle === null) return;
    throw new YavmError('YAVM_E_NO_KVM', `this provider cannot run VMs: ${obstacle}`, {
      hint: "On the provider: 'ya-vm doctor' tells how to fix it; YA_VM_ACCEL=tcg allows slow, emulated VMs.",
    });
  }

  /** `ya-vm shell` into the VM is a convenience: without it the activity goes on. */
  async #openAttach(vm: Vm): Promise<void> {
    const { logger } = this.#options;
    try {
      this.#attach = await this.#effects.serveAttach(
        this.#hostOf(vm),
        join(vm.folder, ATTACH_SOCKET),
        logger,
      );
    } catch (error) {
      logger.warn({ err: toError(error) }, 'ya-vm shell cannot reach this VM');
    }
  }

  #hostOf(vm: Vm): CommandHost {
    return {
      run: (spec) => vm.run(spec),
      stats: () => vm.stats(),
      readFiles: (path, sink, options) => vm.readFiles(path, sink, options),
      writeFiles: (path, source, options) => vm.writeFiles(path, source, options),
      runningAs: (token) => (token === LOCAL_TOKEN ? this.#adoptable.promise : undefined),
    };
  }

  /** The image's own command goes on beside those of the script; nobody collects its output. */
  async #startEntrypoint(vm: Vm, spec: CommandSpec, output: OutputSinks): Promise<void> {
    const command = await vm.run({ ...spec, stdout: 'discard', stderr: 'discard' });
    const ended = (fields: Record<string, unknown>) =>
      this.#options.logger.info(fields, 'the entrypoint ended');
    command.result.then(
      ({ exitCode }) => ended({ exitCode }),
      (error) => ended({ err: toError(error) }),
    );
    const facts = { start: null, entrypoint: { pid: command.pid, command: spec.argv } };
    await output.stdout?.(Buffer.from(JSON.stringify(facts)));
  }
}

/** Rejects with the signal's reason, a moment after it fired; never resolves. */
function afterAbort(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const onAbort = () => setTimeout(() => reject(signal.reason), KILLED).unref();
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
  });
}
