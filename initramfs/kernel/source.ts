/** Where a kernel comes from: a Debian package (by name or file), or the files of any distribution. */
import { readdir, readFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { hasErrno } from '../../host/lib/errors.ts';
import { KernelImageError, PackageError } from '../errors.ts';
import { type KernelConfig, parseConfig } from '../kconfig.ts';
import { type ModuleTree, openModuleTree } from '../modules/tree.ts';
import { type RunTool, runTool } from '../tool.ts';
import { resolveKernelPackage } from './apt.ts';
import { fetchPackage, type PackageCache, type UnpackedPackage, unpackDeb } from './package-cache.ts';

/** Debian's kernel for virtual machines: small, boots fast, has every driver that the guest needs. */
export const DEFAULT_KERNEL_PACKAGE = 'linux-image-cloud-amd64';

export interface KernelSource {
  /** vmlinuz (bzImage) or vmlinux (ELF). */
  image: string;
  modules: ModuleTree;
  /** Null: none was found (one embedded in the kernel may still be). */
  config: KernelConfig | null;
  /** The Debian package; null for plain files. */
  package: { name: string; version: string; sha256: string } | null;
}

export interface KernelFiles {
  kernel: string;
  modules: string;
  /** `.config`; default: `config-<release>` beside the kernel, or `config` in the modules folder. */
  config?: string;
}

/**
 * A kernel from Debian, unpacked into the cache and not installed; needs no root.
 * @param spec Package name (a metapackage is followed to the kernel it stands for), `name=version`, or a .deb file.
 * @throws {PackageError} unknown package, failed or damaged download, or no kernel in it.
 */
export async function fetchKernelPackage(
  cache: PackageCache,
  spec: string = DEFAULT_KERNEL_PACKAGE,
): Promise<KernelSource> {
  const unpacked = /\.deb$|\//.test(spec)
    ? await unpackDeb(cache, spec)
    : await fetchPackage(cache, spec, resolveKernelPackage);
  return openPackage(unpacked, cache.run ?? runTool);
}

/**
 * A kernel from files.
 * @throws {ModuleError} the modules folder is not one.
 * @throws {KernelImageError} a configuration was named that cannot be read.
 */
export async function openKernelFiles(files: KernelFiles, run: RunTool = runTool): Promise<KernelSource> {
  const modules = await openModuleTree(files.modules, false, run);
  const candidates =
    files.config !== undefined
      ? [files.config]
      : [join(dirname(files.kernel), `config-${modules.release}`), join(modules.folder, 'config')];
  return {
    image: files.kernel,
    modules,
    config: await readConfig(candidates, files.config !== undefined),
    package: null,
  };
}

async function openPackage(unpacked: UnpackedPackage, run: RunTool): Promise<KernelSource> {
  const { folder, name, version, sha256 } = unpacked;
  const image = await findImage(unpacked);
  const release = basename(image).replace(/^vmlinuz-/, '');
  // The cache's own folder: depmod's result is kept there.
  const modules = await openModuleTree(folder, true, run);
  const config = await readConfig(
    [join(folder, 'boot', `config-${release}`), join(modules.folder, 'config')],
    false,
  );
  return { image, modules, config, package: { name, version, sha256 } };
}

/** Debian has it in /boot; others in the modules folder. */
async function findImage({ folder, name }: UnpackedPackage): Promise<string> {
  const inBoot = (await readdir(join(folder, 'boot')).catch(() => [])).filter((file) =>
    file.startsWith('vmlinuz-'),
  );
  if (inBoot.length === 1) return join(folder, 'boot', inBoot[0] as string);
  throw new PackageError(`${name}: has ${inBoot.length} kernels (vmlinuz-…) in /boot, not one`, {
    hint: 'Give a kernel image package such as linux-image-cloud-amd64, or --kernel FILE --modules DIR.',
  });
}

async function readConfig(candidates: string[], required: boolean): Promise<KernelConfig | null> {
  for (const path of candidates) {
    try {
      return parseConfig(await readFile(path, 'utf8'));
    } catch (cause) {
      if (required || !hasErrno(cause, 'ENOENT'))
        throw new KernelImageError(`${path}: the kernel's configuration cannot be read`, { cause });
    }
  }
  return null;
}
