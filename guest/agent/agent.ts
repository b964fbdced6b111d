/** The agent's state: its channels from the start, the task once the host has configured the VM. */
import type { Native } from '../../native/face.ts';
import type { ModuleLoader } from '../boot/modules.ts';
import type { TaskRoot } from '../boot/root.ts';
import { GuestError } from '../errors.ts';
import type { TaskNetwork } from '../net/configure.ts';
import type { CgroupTree } from '../process/cgroup.ts';
import type { Commands } from '../process/commands.ts';
import type { Reaper } from '../process/reaper.ts';
import type { Log } from './log.ts';
import { Session } from './session.ts';

/** What exists after `configure`. */
export interface Task {
  root: TaskRoot;
  network: TaskNetwork;
  commands: Commands;
  cgroups: CgroupTree;
  reaper: Reaper;
  /** File transfers under way, by the id of their request: what gives each up. */
  transfers: Map<number, () => void>;
}

/** What a VM's task has of the template that it was made from. */
export interface Prepared {
  cgroups: CgroupTree;
}

/** Milliseconds since boot at which the steps before hello ended. */
export interface BootTimes {
  init: number;
  modules: number;
}

export class Agent {
  readonly native: Native;
  readonly log: Log;
  /** Native channels of the control and the data port. */
  readonly controlChannel: number;
  readonly dataChannel: number;
  /** Loads kernel modules from the initramfs, never from the image. */
  readonly modules: ModuleLoader;
  readonly session: Session;
  /** A shutdown has begun: nothing new is started. */
  stopping = false;
  /** What `prepare` has left: drivers that are loaded and hold back, the loopback link up, and these. */
  prepared: Prepared | null = null;
  /** The first function of the initramfs' hook: rejects with what went wrong. */
  begun: Promise<void> = Promise.resolve();
  /** A configure has begun; it happens once in a VM's life, even when it fails. */
  configuring = false;
  #task: Task | null = null;

  constructor(parts: {
    native: Native;
    log: Log;
    controlChannel: number;
    dataChannel: number;
    modules: ModuleLoader;
  }) {
    this.native = parts.native;
    this.log = parts.log;
    this.controlChannel = parts.controlChannel;
    this.dataChannel = parts.dataChannel;
    this.modules = parts.modules;
    this.session = new Session(this);
  }

  get configured(): boolean {
    return this.#task !== null;
  }

  /** @throws {GuestError} not-configured */
  task(): Task {
    if (!this.#task) throw new GuestError('not-configured', 'the VM has not been configured yet');
    return this.#task;
  }

  begin(task: Task): void {
    this.#task = task;
  }
}
