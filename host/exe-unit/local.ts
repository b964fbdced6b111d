/**
 * What `ya-vm run` adds to an activity of its own: a machine and a command that neither an agreement nor a script has
 * words for (a root disk to keep, a user, a terminal), and how exactly the command ended. Both sides share a private
 * folder, named by {@link LOCAL_FOLDER} in the supervisor's environment, which no provider sets.
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Flex } from '../gsb/types.ts';
import { YavmError } from '../lib/errors.ts';
import { errorToWire, type WireError } from '../lib/wire-error.ts';
import type { CommandResult, CommandSpec, Phase, VmSpec } from '../runtime/types.ts';
import { decodeLocalNetwork, type LocalNetworkOptions } from './local-network.ts';

/** Environment variable with the folder's path. */
export const LOCAL_FOLDER = 'YA_VM_LOCAL';
/** By this name the command is adopted on attach.sock, for its stdin and terminal. */
export const LOCAL_TOKEN = 'command';

/** What the `start` command prints in such an activity, one JSON text a line. */
export type LocalStartLine =
  | { phase: Phase }
  | { vm: { id: string; folder: string; accel: 'kvm' | 'tcg'; start: 'template' | 'boot' } };

/** How the command ended, or why it did not start. */
export type LocalEnd = { result: CommandResult } | { error: WireError };

const FILES = {
  vm: 'machine.json',
  network: 'network.json',
  command: 'command.json',
  end: 'end.json',
} as const;
const MAX_FILE = 4 * 1024 * 1024;

export class LocalExchange {
  readonly #folder: string;

  /** `folder` is this user's alone. */
  constructor(folder: string) {
    this.#folder = folder;
  }

  // ---------------------------------------------------------------- the side of `run`

  putVm(spec: VmSpec): void {
    this.#put(FILES.vm, spec);
  }

  /** Null: none. To be called for every VM, as {@link putVm}. */
  putNetwork(network: LocalNetworkOptions | null): void {
    this.#put(FILES.network, { network });
  }

  putCommand(spec: CommandSpec): void {
    this.#put(FILES.command, spec);
  }

  /** To be read when the command's end was announced. @throws {YavmError} YAVM_E_LOCAL */
  end(): LocalEnd {
    return this.#get<LocalEnd>(FILES.end, (value) => isMap(value.result) || isMap(value.error));
  }

  // ---------------------------------------------------------------- the supervisor's side

  /** @throws {YavmError} YAVM_E_LOCAL */
  vm(): VmSpec {
    return this.#get<VmSpec>(FILES.vm, (value) => Array.isArray(value.layers) && isMap(value.assets));
  }

  /** Null: the VM has none. @throws {YavmError} YAVM_E_LOCAL */
  network(): LocalNetworkOptions | null {
    const { network } = this.#get<{ network: unknown }>(FILES.network, (value) => 'network' in value);
    return network === null ? null : decodeLocalNetwork(network);
  }

  /** @throws {YavmError} YAVM_E_LOCAL */
  command(): CommandSpec {
    return this.#get<CommandSpec>(FILES.command, (value) => Array.isArray(value.argv));
  }

  putResult(result: CommandResult): void {
    this.#put(FILES.end, { result } satisfies LocalEnd);
  }

  putError(thrown: unknown): void {
    this.#put(FILES.end, { error: errorToWire(thrown) } satisfies LocalEnd);
  }

  // ---------------------------------------------------------------- files

  /** Whole or not at all: the other side may be reading. */
  #put(name: string, value: unknown): void {
    const path = join(this.#folder, name);
    writeFileSync(`${path}.new`, JSON.stringify(value), { mode: 0o600 });
    renameSync(`${path}.new`, path);
  }

  #get<T>(name: string, check: (value: Record<string, unknown>) => boolean): T {
    const path = join(this.#folder, name);
    try {
      const text = readFileSync(path, 'utf8');
      const value: unknown = text.length > MAX_FILE ? null : JSON.parse(text);
      if (!isMap(value) || !check(value)) throw new Error('not what is expected there');
      return value as T;
    } catch (cause) {
      throw new YavmError('YAVM_E_LOCAL', `${path}: cannot be used`, {
        cause,
        hint: `$${LOCAL_FOLDER} is for 'ya-vm run' alone.`,
      });
    }
  }
}

function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Script of such an activity's start. */
export const LOCAL_DEPLOYMENT: readonly Flex[] = [{ deploy: {} }, { start: { args: [] } }];

/** The command as a script has it; user, environment and the rest are in the folder. All output, as bytes. */
export function localRun(argv: readonly string[]): Flex[] {
  const everything = { stream: { format: 'blob' } };
  const [entry_point = '', ...args] = argv;
  return [{ run: { entry_point, args, capture: { stdout: everything, stderr: everything } } }];
}
