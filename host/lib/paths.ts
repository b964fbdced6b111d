/** Where ya-vm keeps things on the host: run folders, the cache, what the build made. */
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { packedFolder } from './packed.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Parent of all run folders of this user: `$XDG_RUNTIME_DIR/ya-vm`, else `/tmp/ya-vm-<uid>`. Not created here.
 * The paths of sockets below it must fit sun_path (108 bytes), which is why it is short.
 */
export function runBase(env: Environment = process.env, uid: number = process.getuid?.() ?? 0): string {
  const runtime = env.XDG_RUNTIME_DIR;
  // The specification wants an absolute path and says to ignore others.
  if (runtime?.startsWith('/') && existsSync(runtime)) return join(runtime, 'ya-vm');
  return join(tmpdir(), `ya-vm-${uid}`);
}

/** The cache: `$XDG_CACHE_HOME/ya-vm`, else `~/.cache/ya-vm`; without a home, a folder beside the run folders. Not created here. */
export function cacheFolder(env: Environment = process.env, uid: number = process.getuid?.() ?? 0): string {
  if (env.XDG_CACHE_HOME?.startsWith('/')) return join(env.XDG_CACHE_HOME, 'ya-vm');
  if (env.HOME?.startsWith('/')) return join(env.HOME, '.cache', 'ya-vm');
  return join(tmpdir(), `ya-vm-cache-${uid}`);
}

/**
 * The folder with what the build made (`vmlinux`, `initramfs.cpio.zst`, `manifest.json`, `demo.gvmi`):
 * `$YAVM_ASSETS`, else the folder where the single program unpacks them, else the first of `build/out` of the checkout and
 * the folder of the bundle that has a manifest.
 * @throws {YavmError} YAVM_E_DIST_… when they cannot be unpacked
 */
export function assetsFolder(
  env: Environment = process.env,
  here: string = dirname(fileURLToPath(import.meta.url)),
): string {
  if (env.YAVM_ASSETS) return resolve(env.YAVM_ASSETS);
  const unpacked = unpackedAssets(env);
  if (unpacked !== null) return unpacked;
  const candidates = [join(here, '..', '..', 'build', 'out'), here, join(here, '..')];
  return candidates.find((folder) => existsSync(join(folder, 'manifest.json'))) ?? (candidates[0] as string);
}

/** What the single program carries, as files, addons too; null for any other. @throws {YavmError} YAVM_E_DIST_… */
export function unpackedAssets(env: Environment = process.env): string | null {
  return packedFolder(join(cacheFolder(env), 'dist'));
}
