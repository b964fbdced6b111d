/**
 * Loads the addon under Node and registers it as `globalThis.yavmNative`, where native/native.ts finds it.
 * Guest code never imports this file: in /init the engine has registered the addon before the first line runs.
 */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { unpackedAssets } from '../host/lib/paths.ts';
import type { HostNative } from './host-face.ts';

/** Beside the launcher's bundle (build/launcher.ts), else where build/addon.ts puts it. */
const PLACES = ['./yavm.node', '../build/out/yavm.node'];

/**
 * The addon; loaded at the first call, per thread.
 * @throws Error when it has not been built; {YavmError} YAVM_E_DIST_… when the single program cannot unpack it
 */
export function loadNative(): HostNative {
  const registered = (globalThis as { yavmNative?: HostNative }).yavmNative;
  if (registered) return registered;
  const unpacked = unpackedAssets();
  if (unpacked !== null) return loadNativeAt(join(unpacked, 'yavm.node'));
  const files = PLACES.map((place) => fileURLToPath(new URL(place, import.meta.url)));
  return loadNativeAt(files.find((file) => existsSync(file)) ?? (files.at(-1) as string));
}

/** The addon in `file`, an absolute path; a second call returns what is registered. @throws Error when it cannot be loaded. */
export function loadNativeAt(file: string): HostNative {
  const registry = globalThis as { yavmNative?: HostNative };
  registry.yavmNative ??= requireAddon(file);
  return registry.yavmNative;
}

function requireAddon(file: string): HostNative {
  try {
    return createRequire(import.meta.url)(file) as HostNative;
  } catch (cause) {
    throw new Error(`the native addon ${file} cannot be loaded; build it with "make build"`, { cause });
  }
}
