/**
 * How folders of the host reach a VM: by virtiofsd, or where that cannot run by QEMU's own 9p, which takes a guest's kernel
 * that knows it. 9p is the slower one, and its files are QEMU's user's.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { toError, YavmError } from '../lib/errors.ts';
import { findProgram } from '../lib/programs.ts';
import { type ServerProgram, serverKind } from './share-command.ts';

type Environment = Readonly<Record<string, string | undefined>>;

export type ShareWay = { kind: 'virtiofs'; program: ServerProgram } | { kind: '9p' };

export interface ShareWayOptions {
  /** manifest.json of the initramfs: its kernel and modules. */
  manifest: string;
  env: Environment;
  /** Whether this is root, who needs no user namespace. */
  root: boolean;
}

/** Why one way is barred, and what opens it. */
interface Obstacle {
  reason: string;
  hint: string;
  cause?: unknown;
}

/** @throws {YavmError} YAVM_E_VOLUMES: neither way is open */
export function chooseShareWay(options: ShareWayOptions): ShareWay {
  const modules = readModules(options.manifest);
  const virtiofs = findServer(options, modules);
  if ('path' in virtiofs) return { kind: 'virtiofs', program: virtiofs };
  const missing = missingModule(modules, MODULES_9P);
  if (missing === null) return { kind: '9p' };
  throw new YavmError(
    'YAVM_E_VOLUMES',
    `folders of the host cannot reach the VM: not by virtiofs (${virtiofs.reason}), not by 9p (${missing.reason})`,
    { hint: `${virtiofs.hint}; or ${missing.hint}`, cause: virtiofs.cause },
  );
}

const MODULES_VIRTIOFS = ['virtiofs'];
const MODULES_9P = ['9pnet_virtio', '9p'];
/** Milliseconds: for virtiofsd to tell its version, and for a namespace to be made. */
const DEADLINE = 5000;

function findServer({ env, root }: ShareWayOptions, modules: KernelModules): ServerProgram | Obstacle {
  const missing = missingModule(modules, MODULES_VIRTIOFS);
  if (missing !== null) return missing;
  let path: string;
  try {
    path = findProgram('virtiofsd', env);
  } catch (cause) {
    const { message, hint } = cause as YavmError;
    return { reason: message, hint: hint ?? '', cause };
  }
  try {
    if (!root) execFileSync(PROBE[0], PROBE.slice(1), { timeout: DEADLINE, stdio: 'ignore' });
  } catch (cause) {
    return {
      reason: 'ordinary users are refused user namespaces here',
      hint: 'allow them: sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns',
      cause,
    };
  }
  try {
    const version = execFileSync(path, ['--version'], {
      encoding: 'utf8',
      timeout: DEADLINE,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    return { path, kind: serverKind(version) };
  } catch (cause) {
    return { reason: `${path} does not tell its version`, hint: 'install it again', cause: toError(cause) };
  }
}

/** What the server's start needs: a namespace, and a mount in it. */
const PROBE = [
  ...(['unshare', '--user', '--map-root-user', '--mount', '--'] as const),
  ...['/bin/sh', '-c', 'mount -t tmpfs none /mnt'],
] as const;

/** Of the initramfs: null when it is not known. */
export type KernelModules = { release: string; names: ReadonlySet<string> } | null;

const MAX_MANIFEST = 4 * 1024 * 1024;

/** A manifest that cannot be read says nothing: then the guest will. */
export function readModules(manifest: string): KernelModules {
  try {
    const text = readFileSync(manifest, 'utf8');
    if (text.length > MAX_MANIFEST) return null;
    const { kernel, modules, builtin } = JSON.parse(text) as Partial<Record<string, unknown>>;
    if (!Array.isArray(modules) || !Array.isArray(builtin)) return null;
    const loadable = modules.map((module) => String((module as { name?: unknown } | null)?.name));
    const release = String((kernel as { release?: unknown } | undefined)?.release);
    return { release, names: new Set([...loadable, ...builtin.map(String)]) };
  } catch {
    return null;
  }
}

function missingModule(modules: KernelModules, needed: readonly string[]): Obstacle | null {
  if (modules === null || needed.every((name) => modules.names.has(name))) return null;
  return {
    reason: `the VM's kernel ${modules.release} has no ${needed.find((name) => !modules.names.has(name))}`,
    hint: 'boot a kernel that has it: ya-vm initramfs build --kernel-package linux-image-amd64',
  };
}
