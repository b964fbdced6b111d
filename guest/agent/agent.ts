/** The agent's state: its channels from the start, the task once the host has configured the VM. */
import type { Native } from '../../native/face.ts';
import { GuestError } from '../errors.ts';
import type { CgroupTree } from '../process/cgroup.ts';
import type { Commands } from '../process/commands.ts';
import type { Reaper } from '../process/reaper.ts';
import type { Log } from './log.ts';

/** What exists after `configure`. */
export interface Task {
  /** The task's root directory. */
  rootFd: number;
  commands: Commands;
  cgroups: CgroupTree;
  reaper: Reaper;
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
  /** The initramfs' root: kernel modules are loaded from there, never from the image. */
  readonly initramfsFd: number;
  /** A shutdown has begun: nothing new is started. */
  stopping = false;
  /** A configure has begun; it happens once in a VM's life, even when it fails. */
  configuring = false;
  #task: Task | null = null;

  constructor(parts: {
    native: Native;
    log: Log;
    controlChannel: number;
    dataChannel: number;
    initramfsFd: number;
  }) {
    this.native = parts.native;
    this.log = parts.log;
    this.controlChannel = parts.controlChannel;
    this.dataChannel = parts.dataChannel;
    this.initramfsFd = parts.initramfsFd;
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
