/**
 * The version of the QEMU that VMs run on. Asking QEMU takes as long as all else that `ya-vm version` does: what it said
 * is kept in the cache folder until its file changes. Losing it costs one question.
 */
import { closeSync, openSync, readFileSync, readSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { cacheFolder } from '../lib/paths.ts';
import { findProgram } from '../lib/programs.ts';

type Environment = Readonly<Record<string, string | undefined>>;

const FILE = 'qemu-version.json';
const MAX_FILE = 4096;
/** Milliseconds that QEMU has to answer. */
const ANSWER = 5000;
const VERSION = /^\d+\.\d+(\.\d+)?$/;

/** `7.2.11`, or null when QEMU is not there or does not answer within 5 s. */
export async function qemuVersion(env: Environment = process.env): Promise<string | null> {
  try {
    const qemu = findProgram('qemu-system-x86_64', env);
    const key = identity(qemu);
    const folder = cacheFolder(env);
    const known = key === null ? null : remembered(folder, key);
    if (known !== null) return known;
    const version = await ask(qemu);
    if (key !== null && version !== null) await remember(folder, key, version);
    return version;
  } catch {
    return null;
  }
}

async function ask(qemu: string): Promise<string | null> {
  // Imported here: it is needed once, and half of what the whole command would load.
  const { execFile } = await import('node:child_process');
  const stdout = await new Promise<string>((resolve, reject) => {
    execFile(qemu, ['--version'], { timeout: ANSWER }, (error, text) =>
      error ? reject(error) : resolve(text),
    );
  });
  return /version (\d+\.\d+(?:\.\d+)?)/.exec(stdout)?.[1] ?? null;
}

/** What changes when the program does; null for a script, which may start another program each time. */
function identity(path: string): string | null {
  const { dev, ino, size, mtimeNs, ctimeNs } = statSync(path, { bigint: true });
  const fd = openSync(path, 'r');
  try {
    const magic = Buffer.alloc(4);
    readSync(fd, magic);
    if (magic.toString('latin1') !== '\x7fELF') return null;
  } finally {
    closeSync(fd);
  }
  return [path, dev, ino, size, mtimeNs, ctimeNs].join(' ');
}

function remembered(folder: string, key: string): string | null {
  try {
    const text = readFileSync(join(folder, FILE), 'utf8');
    if (text.length > MAX_FILE) return null;
    const entry = JSON.parse(text);
    return entry?.key === key && typeof entry.version === 'string' && VERSION.test(entry.version)
      ? entry.version
      : null;
  } catch {
    return null;
  }
}

/** A folder that cannot be written is no reason to fail. */
async function remember(folder: string, key: string, version: string): Promise<void> {
  try {
    const { ensurePrivate } = await import('../runtime/run-folder.ts');
    ensurePrivate(folder);
    const path = join(folder, FILE);
    writeFileSync(`${path}.${process.pid}`, JSON.stringify({ key, version }), { mode: 0o600 });
    renameSync(`${path}.${process.pid}`, path);
  } catch {
    return;
  }
}
