/** Synthetic kernels: small enough for unit tests, and exact where the builder looks. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** Physical PVH entry of the synthetic kernel. */
export const PVH_ENTRY = 0x1000850;
export const RELEASE = '6.1.0-99-test';

export interface ElfParts {
  /** Notes of a PT_NOTE segment: owner, type, description. */
  notes?: [owner: string, type: number, description: Buffer][];
  /** Path in a PT_INTERP segment. */
  interpreter?: string;
  /** Bytes of a PT_LOAD segment. */
  load?: Buffer;
  /** e_machine; default x86-64. */
  machine?: number;
}

/** An ELF64 file with the segments asked for, and no sections. */
export function makeElf({ notes = [], interpreter, load, machine = 62 }: ElfParts = {}): Buffer {
  const segments: [type: number, bytes: Buffer][] = [];
  if (load) segments.push([1, load]);
  if (interpreter) segments.push([3, Buffer.from(`${interpreter}\0`)]);
  if (notes.length > 0) segments.push([4, Buffer.concat(notes.map(makeNote))]);
  const header = Buffer.alloc(64 + 56 * segments.length);
  header.write('\x7fELF\x02\x01\x01', 0, 'latin1');
  header.writeUInt16LE(2, 16);
  header.writeUInt16LE(machine, 18);
  header.writeBigUInt64LE(64n, 32);
  header.writeUInt16LE(56, 54);
  header.writeUInt16LE(segments.length, 56);
  let offset = header.length;
  for (const [index, [type, bytes]] of segments.entries()) {
    const at = 64 + 56 * index;
    header.writeUInt32LE(type, at);
    header.writeBigUInt64LE(BigInt(offset), at + 8);
    header.writeBigUInt64LE(BigInt(bytes.length), at + 32);
    offset += bytes.length;
  }
  return Buffer.concat([header, ...segments.map(([, bytes]) => bytes)]);
}

function makeNote([owner, type, description]: [string, number, Buffer]): Buffer {
  const name = Buffer.from(`${owner}\0`);
  const head = Buffer.alloc(12);
  head.writeUInt32LE(name.length, 0);
  head.writeUInt32LE(description.length, 4);
  head.writeUInt32LE(type, 8);
  const pad = (bytes: Buffer) => Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
  return Buffer.concat([head, pad(name), pad(description)]);
}

/** A kernel: ELF with a banner, and the PVH note unless it is to lack it. */
export function makeVmlinux({ pvh = true, release = RELEASE, extra = Buffer.alloc(0) } = {}): Buffer {
  const entry = Buffer.alloc(8);
  entry.writeUInt32LE(PVH_ENTRY);
  const code = Buffer.alloc(64 * 1024, 'kernel code ');
  const banner = Buffer.from(`\0Linux version ${release} (test@host) #1 SMP\n\0`);
  return makeElf({
    load: Buffer.concat([Buffer.from('Linux version %s\0'), code, banner, extra]),
    notes: [
      ['Xen', 6, Buffer.from('linux\0')],
      ['Linux', 0x12, Buffer.from('not it')],
      ...(pvh ? [['Xen', 18, entry] as [string, number, Buffer]] : []),
    ],
  });
}

/** A bzImage around a payload, of boot protocol 2.15. */
export function makeBzImage(
  payload: Buffer,
  { release = RELEASE, setupSects = 4, protocol = 0x020f } = {},
): Buffer {
  const setup = Buffer.alloc((setupSects + 1) * 512);
  setup[0x1f1] = setupSects;
  setup.writeUInt16LE(0xaa55, 0x1fe);
  setup.write('HdrS', 0x202, 'latin1');
  setup.writeUInt16LE(protocol, 0x206);
  setup.writeUInt16LE(0x400 - 0x200, 0x20e);
  setup.write(`${release} (test@host) #1 SMP\0`, 0x400, 'latin1');
  const before = Buffer.alloc(716, 0xcc);
  setup.writeUInt32LE(before.length, 0x248);
  setup.writeUInt32LE(payload.length, 0x24c);
  return Buffer.concat([setup, before, payload, Buffer.alloc(100, 0xdd)]);
}

/** What the kernel's build appends to every compression but gzip: the uncompressed size. */
export function withSize(compressed: Uint8Array, size: number): Buffer {
  const tail = Buffer.alloc(4);
  tail.writeUInt32LE(size);
  return Buffer.concat([compressed, tail]);
}

/** Writes files below a folder, making theirs. */
export function writeTree(folder: string, files: Record<string, string | Uint8Array>): void {
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), content);
  }
}
