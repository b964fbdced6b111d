/** What a kernel module says of itself: section .modinfo of its ELF file, `key=value` with NULs between. */
import { DriverLayerError } from './errors.ts';

export interface ModuleInfo {
  name: string;
  version: string | null;
  vermagic: string;
  /** First word of vermagic. */
  release: string;
  depends: string[];
  aliases: string[];
  softdeps: string[];
}

/** Bounds of an ELF file that is a module: real ones have 60 sections and 20 KB of information. */
const MAX_SECTIONS = 65_535;
const MAX_INFO = 4 * 1024 * 1024;

/** @throws {DriverLayerError} no x86-64 kernel module, or one without name or vermagic */
export function readModuleInfo(bytes: Buffer, path: string): ModuleInfo {
  const text = modinfoSection(bytes, path).toString('latin1');
  const values = new Map<string, string[]>();
  for (const entry of text.split('\0')) {
    const equals = entry.indexOf('=');
    if (equals < 1) continue;
    const key = entry.slice(0, equals);
    values.set(key, [...(values.get(key) ?? []), entry.slice(equals + 1)]);
  }
  const first = (key: string) => values.get(key)?.[0] ?? null;
  const [name, vermagic] = [first('name'), first('vermagic')];
  const release = vermagic?.split(' ')[0];
  if (!name || !vermagic || !release || !/^[A-Za-z0-9._+~-]{1,64}$/.test(release))
    throw new DriverLayerError(`${path}: the module does not say its name and its kernel (vermagic)`);
  return {
    name,
    version: first('version'),
    vermagic,
    release,
    depends: (first('depends') ?? '').split(',').filter(Boolean),
    aliases: values.get('alias') ?? [],
    softdeps: values.get('softdep') ?? [],
  };
}

/** By the ELF-64 specification: header, section headers, names of sections. */
function modinfoSection(bytes: Buffer, path: string): Buffer {
  const broken = () => new DriverLayerError(`${path}: no whole kernel module for x86-64`);
  try {
    const [ET_REL, EM_X86_64] = [1, 62];
    const magic = bytes.subarray(0, 5).equals(Buffer.from('\x7fELF\x02', 'latin1'));
    if (!magic || bytes.readUInt16LE(16) !== ET_REL || bytes.readUInt16LE(18) !== EM_X86_64) throw broken();
    const table = Number(bytes.readBigUInt64LE(40));
    const [size, count, names] = [58, 60, 62].map((at) => bytes.readUInt16LE(at)) as [number, number, number];
    if (size !== 64 || count > MAX_SECTIONS) throw broken();
    const section = (index: number) => {
      const at = table + index * size;
      const [offset, length] = [24, 32].map((field) => Number(bytes.readBigUInt64LE(at + field))) as [
        number,
        number,
      ];
      if (offset + length > bytes.length) throw broken();
      return { name: bytes.readUInt32LE(at), content: bytes.subarray(offset, offset + length) };
    };
    const strings = section(names).content;
    for (let index = 1; index < count; index++) {
      const nameAt = bytes.readUInt32LE(table + index * size);
      const name = strings.subarray(nameAt, strings.indexOf(0, nameAt)).toString('latin1');
      if (name !== '.modinfo') continue;
      const { content } = section(index);
      if (content.length <= MAX_INFO) return content;
    }
  } catch (error) {
    // Numbers that lead out of the file.
    if (!(error instanceof RangeError)) throw error;
  }
  throw broken();
}
