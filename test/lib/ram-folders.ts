/** Folders in memory: the machine's disk may be slow, and is not what is tried. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/**
 * Makes a file system of `size` (as mount has it), and returns what makes new empty folders in it. They are gone when
 * `t` ends. Needs root: see {@link inNamespaces}.
 */
export function ramFolders(t: { teardown(fn: () => void): void }, size: string): () => string {
  const top = mkdtempSync(join(tmpdir(), 'yavm-ram-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'yavm-test', top]);
  t.teardown(() => {
    execFileSync('umount', ['-l', top]);
    rmSync(top, { recursive: true, force: true });
  });
  let folders = 0;
  return () => {
    const path = join(top, String(folders++));
    mkdirSync(path);
    return path;
  };
}
