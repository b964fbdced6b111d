/** Programs of the distribution that ya-vm calls, and what to install when they are not there. */
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { type ErrorCode, YavmError } from './errors.ts';

interface Program {
  /** Names a replacement by its path. */
  variable: string;
  code: ErrorCode;
  /** Debian's package. */
  package: string;
  /** Where it is although no PATH names that. */
  folders?: readonly string[];
}

const PROGRAMS = {
  'qemu-system-x86_64': { variable: 'YAVM_QEMU', code: 'YAVM_E_QEMU_MISSING', package: 'qemu-system-x86' },
  mke2fs: { variable: 'YAVM_MKE2FS', code: 'YAVM_E_MKE2FS_MISSING', package: 'e2fsprogs' },
  fallocate: { variable: 'YAVM_FALLOCATE', code: 'YAVM_E_ROOT_DISK', package: 'util-linux' },
  virtiofsd: {
    variable: 'YAVM_VIRTIOFSD',
    code: 'YAVM_E_VOLUMES',
    package: 'virtiofsd (in Debian 12: qemu-system-common)',
    folders: ['/usr/libexec', '/usr/lib/qemu'],
  },
  mksquashfs: { variable: 'YAVM_MKSQUASHFS', code: 'YAVM_E_MKSQUASHFS_MISSING', package: 'squashfs-tools' },
  unsquashfs: {
    variable: 'YAVM_UNSQUASHFS',
    code: 'YAVM_E_MKSQUASHFS_MISSING',
    package: 'squashfs-tools',
  },
  xz: { variable: 'YAVM_XZ', code: 'YAVM_E_COMPRESSOR_MISSING', package: 'xz-utils' },
  passt: { variable: 'YAVM_PASST', code: 'YAVM_E_NET_PASST', package: 'passt' },
  bzip2: { variable: 'YAVM_BZIP2', code: 'YAVM_E_COMPRESSOR_MISSING', package: 'bzip2' },
} as const satisfies Record<string, Program>;

export type ProgramName = keyof typeof PROGRAMS;

/** Ordinary users have no sbin in their PATH on Debian, and mke2fs is there. */
const EXTRA_FOLDERS = ['/usr/sbin', '/sbin', '/usr/bin', '/bin'];

/** Path of a program. @throws {YavmError} the program's code (YAVM_E_QEMU_MISSING …), with the command that installs it. */
export function findProgram(
  name: ProgramName,
  env: Readonly<Record<string, string | undefined>> = process.env,
): string {
  const program: Program = PROGRAMS[name];
  const given = env[program.variable];
  const folders = [
    ...(env.PATH ?? '').split(delimiter).filter((folder) => folder.startsWith('/')),
    ...EXTRA_FOLDERS,
    ...(program.folders ?? []),
  ];
  const candidates = given ? [given] : folders.map((folder) => join(folder, name));
  const found = candidates.find(isExecutable);
  if (found) return found;
  const message = given ? `${given} ($${program.variable}) cannot be executed` : `${name} is not installed`;
  throw new YavmError(program.code, message, { hint: `sudo apt-get install ${program.package}` });
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
