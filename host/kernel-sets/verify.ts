/** Whether a kernel set is what its build wrote, byte for byte. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { type FileDigest, type Manifest, parseManifest } from '../../initramfs/manifest.ts';
import { isSetWhole } from '../lib/kernel-check.ts';
import { filesIn } from '../lib/kernel-set.ts';

const MAX_MANIFEST = 16 * 1024 * 1024;

/** The manifest of a set whose kernel and initramfs are the ones that it names; null when anything is missing or differs. */
export async function readWhole(folder: string): Promise<Manifest | null> {
  const files = filesIn(folder);
  try {
    if ((await stat(files.manifest)).size > MAX_MANIFEST) return null;
    const manifest = parseManifest(await readFile(files.manifest, 'utf8'));
    const same =
      (await matches(files.kernel, manifest.vmlinux)) && (await matches(files.initramfs, manifest.initramfs));
    // By the hash of its manifest, too: one that was changed together with its files is another.
    return same && isSetWhole(folder, files) ? manifest : null;
  } catch {
    // Why does not matter: it is built anew.
    return null;
  }
}

export async function isWhole(folder: string): Promise<boolean> {
  return (await readWhole(folder)) !== null;
}

async function matches(path: string, expected: FileDigest): Promise<boolean> {
  if ((await stat(path)).size !== expected.size) return false;
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest('hex') === expected.sha256;
}
