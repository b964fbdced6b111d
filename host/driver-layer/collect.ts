/** Finds what belongs into a layer in unpacked drivers, whatever their layout: an unpacked .run, .deb packages, a dkms folder. */
import { closeSync, openSync, readSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import { runTool } from '../../initramfs/tool.ts';
import { FILES, FIRMWARE, LIBRARIES, type Library, MODULES, VERSION } from './contents.ts';
import { DriverLayerError } from './errors.ts';
import { type ModuleInfo, readModuleInfo } from './module-info.ts';

export interface FoundModule {
  /** As the file is called, without `.ko` and compression. */
  file: string;
  bytes: Buffer;
  info: ModuleInfo;
}

/** A file that is copied as it is. */
export interface FoundFile {
  /** Of the source. */
  path: string;
  /** In the layer. */
  target: string;
  executable: boolean;
}

export interface Found {
  modules: FoundModule[];
  libraries: { library: Library; version: string; path: string }[];
  files: FoundFile[];
  firmware: string[];
}

/** Bounds: an unpacked .run has 400 files, eight packages have 300; a module has at most 110 MB. */
const MAX_ENTRIES = 100_000;
const MAX_MODULE = 512 * 1024 * 1024;

/** @throws {DriverLayerError} unreadable, no module, or two files for one place; {ToolError} of xz */
export async function collect(folders: readonly string[]): Promise<Found> {
  const found: Found = { modules: [], libraries: [], files: [], firmware: [] };
  const taken = new Map<string, string>();
  const once = (key: string, path: string) => {
    const before = taken.get(key);
    if (before !== undefined) {
      throw new DriverLayerError(`${path}: ${before} is for the same place`, {
        hint: 'Of open and proprietary modules (kernel-open/, kernel/) give the one that your cards need.',
      });
    }
    taken.set(key, path);
  };
  for (const path of (await Promise.all(folders.map(filesIn))).flat()) {
    const name = basename(path);
    const module = /^(.+)\.ko(?:\.(?:gz|xz|zst))?$/.exec(name)?.[1];
    const [, stem, version] = /^(lib[\w-]+)\.so\.([\d.]+)$/.exec(name) ?? [];
    const library = LIBRARIES.find((each) => each.name === stem);
    if (module !== undefined && MODULES.includes(module.replaceAll('_', '-'))) {
      once(module.replaceAll('_', '-'), path);
      const bytes = await readModule(path);
      const file = module.replaceAll('_', '-');
      found.modules.push({ file, bytes, info: readModuleInfo(bytes, path) });
    } else if (library && version !== undefined && VERSION.test(version) && isElf64(path)) {
      once(name, path);
      found.libraries.push({ library, version, path });
    } else if (FIRMWARE.test(name)) {
      once(name, path);
      found.firmware.push(path);
    } else if (FILES[name] !== undefined && (FILES[name] !== 'bin' || isElf64(path))) {
      // Packages have other files of a program's name: in /etc/init.d, and for lintian.
      once(name, path);
      found.files.push({ path, target: `usr/${FILES[name]}/${name}`, executable: FILES[name] === 'bin' });
    }
  }
  return found;
}

/** Regular files, sorted by path; links are left out: the layer makes its own. */
async function filesIn(folder: string): Promise<string[]> {
  try {
    const entries = await readdir(folder, { recursive: true, withFileTypes: true });
    if (entries.length > MAX_ENTRIES)
      throw new DriverLayerError(`${folder}: ${entries.length} files are no unpacked driver`);
    return entries
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name))
      .sort();
  } catch (cause) {
    if (cause instanceof DriverLayerError) throw cause;
    throw new DriverLayerError(`${folder}: cannot be read as a folder`, { cause });
  }
}

/** Unpacked: not every kernel unpacks modules itself, and squashfs compresses better. */
async function readModule(path: string): Promise<Buffer> {
  const packed = await readFile(path);
  try {
    if (path.endsWith('.gz')) return gunzipSync(packed, { maxOutputLength: MAX_MODULE });
    if (path.endsWith('.zst')) return zstdDecompressSync(packed, { maxOutputLength: MAX_MODULE });
    if (path.endsWith('.xz')) return await runTool('xz', ['-dc'], { input: packed, maxOutput: MAX_MODULE });
    return packed;
  } catch (cause) {
    throw new DriverLayerError(`${path}: cannot be unpacked`, { cause });
  }
}

/** Drivers bring 32-bit libraries of the same names. */
function isElf64(path: string): boolean {
  const head = Buffer.alloc(5);
  const fd = openSync(path, 'r');
  try {
    return readSync(fd, head) === 5 && head.equals(Buffer.from('\x7fELF\x02', 'latin1'));
  } finally {
    closeSync(fd);
  }
}
