/** Looks into ext4 disks from outside, with e2fsprogs: nothing is mounted, no root needed. */
import { spawnSync } from 'node:child_process';
import { statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { findProgram } from '../../host/lib/programs.ts';

const MOST_OUTPUT = 1024 ** 3;

/** e2fsck's verdict on a disk, which it does not change: empty when it is clean, else what it says. */
export function findDamage(disk: string): string {
  const { status, text } = run('e2fsck', ['-f', '-n', disk]);
  return status === 0 ? '' : `e2fsck ended with ${status}: ${text}`;
}

/** Replays the journal, as the next mount would, and repairs nothing. @throws {Error} with what e2fsck says */
export function replayJournal(disk: string): void {
  const { status, text } = run('e2fsck', ['-E', 'journal_only', '-y', disk]);
  // 1: something was corrected, here the journal.
  if (status !== 0 && status !== 1) throw new Error(`e2fsck ended with ${status}: ${text}`);
}

/** Content of a file in it; empty when there is none. */
export function readFileIn(disk: string, path: string): Buffer {
  return run('debugfs', ['-R', `cat "${path}"`, disk]).stdout;
}

/** Bytes that a sparse file takes on the host. */
export function allocated(file: string): number {
  return statSync(file).blocks * 512;
}

/** The others of the package lie where mke2fs does, which ordinary users do not have in their PATH. */
function run(name: string, args: string[]): { status: number | null; stdout: Buffer; text: string } {
  const program = join(dirname(findProgram('mke2fs')), name);
  const { status, stdout, stderr, error } = spawnSync(program, args, { maxBuffer: MOST_OUTPUT });
  if (error) throw error;
  return { status, stdout, text: `${stdout}${stderr}` };
}
