/** What the parts of the exe-unit say to each other. Facts: the spec's exe-unit.md, sections 4 and 5. */
import type { Flex } from '../gsb/types.ts';

// ---------------------------------------------------------------- script

export interface ProgressOptions {
  /** Milliseconds between two events at least; default 1000. */
  updateInterval?: number;
  /** Bytes between two events at least. */
  updateStep?: number;
}

export interface DeployNetwork {
  id: string;
  ip: string;
  mask?: string;
  gateway?: string;
  nodeIp: string;
  /** Node ids by IP address. */
  nodes: Record<string, string>;
}

export type Volume =
  | { kind: 'host' }
  | { kind: 'ram'; size: number }
  | { kind: 'storage'; size: number; preallocate?: number; errors?: string };

/** `blob` is ours, for who decodes blobs as bytes: `ya-vm run`. Upstream's `binary` is a vector, up to 4 times as long. */
export type OutputFormat = 'text' | 'binary' | 'blob';

/** How one output stream of a command is captured (4.9). Sizes in bytes. */
export type Capture =
  | { mode: 'at-end'; part: 'all' | 'head' | 'tail' | 'head-tail'; size: number; format: OutputFormat }
  | { mode: 'stream'; limit: number | null; format: OutputFormat };

export type ScriptCommand = { /** As it came: `started` events repeat it. */ source: Flex } & (
  | {
      kind: 'deploy';
      networks: DeployNetwork[];
      hosts: Record<string, string>;
      hostname?: string;
      /** By path in the VM. */
      volumes: Record<string, Volume>;
      env: Record<string, string>;
      progress?: ProgressOptions;
    }
  | { kind: 'start'; args: string[] }
  | { kind: 'run'; entryPoint: string; args: string[]; stdout?: Capture; stderr?: Capture }
  | {
      kind: 'transfer';
      from: string;
      to: string;
      format?: string;
      depth?: number;
      fileset?: Flex;
      progress?: ProgressOptions;
    }
  | { kind: 'sign' }
  | { kind: 'terminate' }
);

export type CommandOf<Kind extends ScriptCommand['kind']> = Extract<ScriptCommand, { kind: Kind }>;

// ---------------------------------------------------------------- state

export type State = 'New' | 'Initialized' | 'Deployed' | 'Ready' | 'Terminated';
/** Current, and pending while a command is on its way. */
export type StatePair = readonly [State, State | null];

// ---------------------------------------------------------------- runtime

/** Takes bytes of a command's output; they are valid until it returns or its promise resolves. */
export type OutputSink = (bytes: Uint8Array) => void | Promise<void>;

export interface OutputSinks {
  /** Null: discarded. */
  stdout: OutputSink | null;
  stderr: OutputSink | null;
}

/** `unit` is `Bytes`; total null when not known. */
export interface ProgressReport {
  message?: string;
  done: number;
  total: number | null;
  unit?: string;
}

export interface RunEnd {
  /** Exit code, or 128 + signal. */
  exitCode: number;
  outOfMemory?: boolean;
  /** False: the guest announced output that did not arrive. */
  complete?: boolean;
}

/** Reading of what the VM has used so far; absolute values of this runtime, which may fall back when a VM is replaced. */
export interface RuntimeUsage {
  /** Of the VM's process alone, seconds. */
  cpuSeconds: number;
  /** Resident now, bytes, that is the VM's own. */
  memory: number;
  /** Resident now, bytes, that other VMs have too: pages of files, the template's above all. */
  shared: number;
  /** Blocks allocated for the activity now, bytes. */
  storage: number;
  networkIn: number;
  networkOut: number;
}

/** What executes commands: the VM, or a stand-in for tests. Every method rejects with the reason when `signal` fires. */
export interface ActivityRuntime {
  /** Fetches and checks the image, makes disks. */
  deploy(
    command: CommandOf<'deploy'>,
    progress: (report: ProgressReport) => void,
    signal: AbortSignal,
  ): Promise<void>;
  /** Boots. */
  start(command: CommandOf<'start'>, output: OutputSinks, signal: AbortSignal): Promise<void>;
  /** Resolves when the command ended and its sinks took all of its output. Killed when `signal` fires. */
  run(command: CommandOf<'run'>, output: OutputSinks, signal: AbortSignal): Promise<RunEnd>;
  transfer(
    command: CommandOf<'transfer'>,
    progress: (report: ProgressReport) => void,
    signal: AbortSignal,
  ): Promise<void>;
  /** Ends the VM, in order within `grace` milliseconds, else by force, and forgets the deployment; may be called in any state. */
  stop(grace: number): Promise<void>;
  usage(): RuntimeUsage;
}
