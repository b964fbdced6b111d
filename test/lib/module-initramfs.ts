/** Initramfs for tests of the module loader: the product's, with more modules, and some of them spoiled. */
import { appendFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fetchKernel } from '../../build/kernel.ts';
import type { BootAssets } from '../../host/runtime/index.ts';
import { buildInitramfs } from '../../initramfs/build.ts';
import { type Entry, packCpio } from '../../initramfs/cpio.ts';
import { readModule } from '../../initramfs/modules/tree.ts';
import { builtFile } from './vm.ts';

export interface ModuleInitramfs {
  /** Names of modules beside the product's. */
  modules: string[];
  /** Files by absolute path, in place of what is there. */
  files?: Record<string, string>;
  /** Modules by name, and how each is changed. */
  spoiled?: Record<string, (module: Buffer) => Buffer>;
}

/** Builds it in a folder. A second archive behind the first overrides files of it: the kernel unpacks both in turn. */
export async function buildModuleInitramfs(folder: string, what: ModuleInitramfs): Promise<BootAssets> {
  const kernel = await fetchKernel();
  const assets = {
    kernel: builtFile('vmlinux'),
    initramfs: join(folder, 'modules.cpio.zst'),
    manifest: join(folder, 'manifest.json'),
  };
  await buildInitramfs({
    kernel,
    init: builtFile('init'),
    extraModules: what.modules,
    outputs: { initramfs: assets.initramfs, manifest: assets.manifest },
    version: 'test',
  });
  const entries: Entry[] = Object.entries(what.files ?? {}).map(([path, text]) => {
    return { type: 'file', path, mode: 0o644, data: Buffer.from(text) };
  });
  for (const [name, spoil] of Object.entries(what.spoiled ?? {})) {
    const file = kernel.modules.index.modules.get(name);
    if (!file) throw new Error(`this kernel has no module '${name}'`);
    const data = spoil(Buffer.from(await readModule(kernel.modules, file.path)));
    entries.push({
      type: 'file',
      path: `/lib/modules/${kernel.modules.release}/${name}.ko`,
      mode: 0o644,
      data,
    });
  }
  // Archives begin at a multiple of four bytes; NULs between are skipped.
  const padding = Buffer.alloc((4 - (readFileSync(assets.initramfs).length % 4)) % 4);
  if (entries.length > 0) appendFileSync(assets.initramfs, Buffer.concat([padding, packCpio(entries)]));
  return assets;
}

const SIGNATURE_MARK = '~Module signature appended~\n';
/** `struct module_signature`, before the mark; its last field is the signature's length, big endian. */
const SIGNATURE_INFO = 12;

/** Without the signature: a changed module with one is refused for that. */
export function unsigned(module: Buffer): Buffer {
  const end = module.length - SIGNATURE_MARK.length;
  if (module.subarray(end).toString('latin1') !== SIGNATURE_MARK) return module;
  return module.subarray(0, end - SIGNATURE_INFO - module.readUInt32BE(end - 4));
}

/** Replaces every occurrence of a text by one of the same length. */
export function replaced(module: Buffer, from: string, to: string): Buffer {
  const changed = Buffer.from(module.toString('latin1').replaceAll(from, to), 'latin1');
  if (changed.equals(module) || changed.length !== module.length)
    throw new Error(`'${from}' is not to be replaced`);
  return changed;
}
