/** What `doctor` asks of this host. Tests give their own answers. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { constants, createReadStream } from 'node:fs';
import { access, readFile, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { findProgram, type ProgramName } from '../../lib/programs.ts';
import type { PasstTrial } from '../../network/outbound/try-passt.ts';
import type { KvmVerdict } from '../../runtime/start-cache.ts';
import type { StartChoice } from '../../runtime/types.ts';

type Environment = Readonly<Record<string, string | undefined>>;

export interface TemplateFacts {
  choice: StartChoice;
  folder: string;
  /** Bytes that they may take, and do. */
  limit: number;
  size: number;
  count: number;
}

export interface Probes {
  platform: string;
  architecture: string;
  nodeVersion: string;
  uid: number;
  gid: number;
  /** Login name for the commands that fix things. */
  user: string;
  /** Folder of the run folders, of root disks, of the cache, and of what the build made. */
  runBase: string;
  disks: string;
  cache: string;
  assets: string;
  /** Folder of the kernel set that VMs boot; absent: `assets`. @throws {YavmError} YAVM_E_KERNEL_SET, YAVM_E_KERNEL_SIGNATURE */
  kernel?(): string;
  /** Path of a program. @throws {YavmError} that says what to install. */
  find(program: ProgramName): string;
  /** Standard output, or null when it failed or took longer than 10 s. */
  output(program: string, words: readonly string[]): Promise<string | null>;
  readText(path: string): Promise<string | null>;
  /** Whether it exists, and what this user may do with it. */
  access(path: string): Promise<{ exists: boolean; read: boolean; write: boolean }>;
  stat(path: string): Promise<{ mode: number; uid: number; size: number; isDirectory: boolean } | null>;
  /** File system of `path`, or of its nearest parent that exists. */
  fileSystem(path: string): Promise<{ free: number; inMemory: boolean } | null>;
  /** Hexadecimal sha256, or null when it cannot be read. */
  sha256(path: string): Promise<string | null>;
  /** passt was started, and it answers. @throws {YavmError} YAVM_E_NET_PASST, with what helps */
  passt(): Promise<PasstTrial>;
  /** What VMs start from, as the environment has it. @throws {YavmError} YAVM_E_USAGE: a variable is wrong */
  templates?(): Promise<TemplateFacts>;
  /** Verdict of the acceleration probe: what a boot under KVM showed. */
  acceleration(): Promise<KvmVerdict>;
}

/** f_type of statfs(2): TMPFS_MAGIC and RAMFS_MAGIC. */
const MEMORY_FILE_SYSTEMS = [0x01021994, 0x858458f6];

type EffectProbes = Pick<
  Probes,
  'find' | 'output' | 'readText' | 'access' | 'stat' | 'fileSystem' | 'sha256'
>;

/** The probes that ask the real host. */
export function hostProbes(environment: Environment): EffectProbes {
  return {
    find: (program) => findProgram(program, environment),
    async output(program, words) {
      try {
        return (await promisify(execFile)(program, words, { timeout: 10_000 })).stdout;
      } catch {
        return null;
      }
    },
    readText: (file) => readFile(file, 'utf8').catch(() => null),
    async access(file) {
      const [exists, read, write] = await Promise.all([
        may(file, constants.F_OK),
        may(file, constants.R_OK),
        may(file, constants.W_OK),
      ]);
      return { exists, read, write };
    },
    async stat(file) {
      const found = await stat(file).catch(() => null);
      return (
        found && {
          mode: found.mode & 0o7777,
          uid: found.uid,
          size: found.size,
          isDirectory: found.isDirectory(),
        }
      );
    },
    fileSystem: fileSystemOf,
    sha256,
  };
}

async function may(file: string, mode: number): Promise<boolean> {
  return access(file, mode).then(
    () => true,
    () => false,
  );
}

async function fileSystemOf(path: string): Promise<{ free: number; inMemory: boolean } | null> {
  for (let folder = path; ; folder = join(folder, '..')) {
    const found = await statfs(folder).catch(() => null);
    if (found) {
      return { free: found.bavail * found.bsize, inMemory: MEMORY_FILE_SYSTEMS.includes(found.type) };
    }
    if (folder === '/' || folder === '.') return null;
  }
}

async function sha256(file: string): Promise<string | null> {
  const hash = createHash('sha256');
  try {
    for await (const chunk of createReadStream(file)) hash.update(chunk);
    return hash.digest('hex');
  } catch {
    return null;
  }
}
