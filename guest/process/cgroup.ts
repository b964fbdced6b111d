/** One cgroup v2 per command: the unit of killing, of limits and of figures. */
import type { Native } from '../../native/face.ts';
import { O_CLOEXEC, O_DIRECTORY, O_RDONLY } from '../lib/constants.ts';

/** Parent of all commands' groups, beneath the cgroup file system. */
const PARENT = 'yavm';
/** Controllers that commands use. cpu.stat is there without the cpu controller, which would only cost time. */
const CONTROLLERS = '+memory +pids';
/** Largest cgroup file that is read, bytes (cgroup.procs of a fork bomb is bounded by pids.max). */
const MAX_CGROUP_FILE = 1024 * 1024;

export interface CgroupFigures {
  /** Milliseconds. */
  cpu: { user: number; system: number };
  /** Highest use so far, bytes. */
  memoryPeak: number;
  outOfMemoryKills: number;
}

/** The tree of commands' groups. */
export class CgroupTree {
  readonly #native: Native;
  readonly #root: string;
  /** Made ahead, so that a run request does not wait for mkdir (about 1 ms under emulation). */
  #spare: Cgroup | null = null;
  #next = 1;

  /** `mountPoint`: where the cgroup2 file system is. */
  constructor(native: Native, mountPoint = '/sys/fs/cgroup') {
    this.#native = native;
    this.#root = `${mountPoint}/${PARENT}`;
    this.#enable(mountPoint);
    native.mkdir(this.#root, 0o755);
    this.#enable(this.#root);
  }

  /** Bounds what all commands together may take, so that the kernel's killer never has to look beyond them. */
  limitMemory(bytes: number): void {
    this.#write(this.#root, 'memory.max', String(Math.floor(bytes)));
  }

  /** A group for one command, its limits set. */
  take(limits: { memory?: number; pids?: number }): Cgroup {
    const group = this.#spare ?? this.#make();
    this.#spare = null;
    try {
      if (limits.memory !== undefined) group.write('memory.max', String(limits.memory));
      if (limits.pids !== undefined) group.write('pids.max', String(limits.pids));
      return group;
    } catch (error) {
      group.remove();
      throw error;
    }
  }

  /** Makes the next spare; called when nobody waits. */
  prepare(): void {
    this.#spare ??= this.#make();
  }

  /** CPU time of every command so far, milliseconds. */
  cpu(): { user: number; system: number } {
    return cpuOf(this.#native.readText(-1, `${this.#root}/cpu.stat`, MAX_CGROUP_FILE));
  }

  /** Every process in every command's group (killing at shutdown). */
  killAll(): void {
    this.#write(this.#root, 'cgroup.kill', '1');
  }

  /** Whether any process is left in any command's group. */
  populated(): boolean {
    return this.#native.readText(-1, `${this.#root}/cgroup.events`, MAX_CGROUP_FILE).includes('populated 1');
  }

  #make(): Cgroup {
    const name = String(this.#next++);
    this.#native.mkdir(`${this.#root}/${name}`, 0o755);
    return new Cgroup(this.#native, `${this.#root}/${name}`, `/${PARENT}/${name}`);
  }

  #enable(path: string): void {
    this.#write(path, 'cgroup.subtree_control', CONTROLLERS);
  }

  #write(path: string, file: string, text: string): void {
    this.#native.writeText(-1, `${path}/${file}`, text);
  }
}

/** One command's group. */
export class Cgroup {
  readonly #native: Native;
  readonly #path: string;
  /** Path as the kernel names it in its log (`task_memcg=`). */
  readonly name: string;
  /** Directory descriptor, for CLONE_INTO_CGROUP and for reading figures by short paths. */
  readonly fd: number;

  constructor(native: Native, path: string, name: string) {
    this.#native = native;
    this.#path = path;
    this.name = name;
    this.fd = native.open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  }

  write(file: string, text: string): void {
    this.#native.writeText(this.fd, file, text);
  }

  figures(): CgroupFigures {
    return {
      cpu: cpuOf(this.#read('cpu.stat')),
      memoryPeak: Number(this.#read('memory.peak')),
      outOfMemoryKills: keyed(this.#read('memory.events'), 'oom_kill'),
    };
  }

  /** Kills every process of the group, in one go (cgroup.kill, Linux 5.14). */
  kill(): void {
    this.write('cgroup.kill', '1');
  }

  processes(): number[] {
    return this.#read('cgroup.procs').split('\n').filter(Boolean).map(Number);
  }

  /** Memory in use now, bytes. */
  memory(): number {
    return Number(this.#read('memory.current'));
  }

  tasks(): number {
    return Number(this.#read('pids.current'));
  }

  /** Removes the directory; false while processes are left in it. */
  remove(): boolean {
    try {
      this.#native.rmdir(this.#path);
    } catch (error) {
      if ((error as { code?: string }).code === 'EBUSY') return false;
      throw error;
    }
    this.#native.close(this.fd);
    return true;
  }

  #read(file: string): string {
    return this.#native.readText(this.fd, file, MAX_CGROUP_FILE);
  }
}

/** Milliseconds from the `user_usec` and `system_usec` lines of cpu.stat. */
export function cpuOf(stat: string): { user: number; system: number } {
  return { user: keyed(stat, 'user_usec') / 1000, system: keyed(stat, 'system_usec') / 1000 };
}

/** The number after `key ` in a flat-keyed cgroup file; 0 when the key is not there. */
export function keyed(text: string, key: string): number {
  const at = text.startsWith(`${key} `) ? 0 : text.indexOf(`\n${key} `) + 1;
  if (at === 0 && !text.startsWith(`${key} `)) return 0;
  return Number.parseInt(text.slice(at + key.length + 1), 10) || 0;
}
