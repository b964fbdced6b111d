/** Zip files as an attacker writes them: the directory and the places may disagree, names hold anything. */
import zlib from 'node:zlib';

export interface RawMember {
  /** One character a byte. */
  name: string;
  content?: Uint8Array | string;
  /** What stands at its place, where it differs from the directory. */
  localName?: string;
  /** Unix mode with its type; default a file's. 0: none. */
  mode?: number;
  /** What made it: 3 is Unix, 0 MS-DOS. */
  system?: number;
  /** 8: deflated. Others are stored, whatever they mean. */
  method?: number;
  /** General purpose flags. */
  flags?: number;
  /** What the directory says, where that is not true. */
  size?: number;
  crc?: number;
  extra?: Uint8Array;
  /** Where the directory says that it is. */
  offset?: number;
  /** Leave out what the directory lists. */
  onlyListed?: boolean;
}

export interface RawEnd {
  entries?: number;
  disk?: number;
  offset?: number;
  comment?: string;
}

export function rawZip(members: readonly RawMember[], end: RawEnd = {}): Buffer {
  const parts: Buffer[] = [];
  const listed: Buffer[] = [];
  let at = 0;
  const put = (bytes: Buffer) => {
    parts.push(bytes);
    at += bytes.byteLength;
  };
  for (const member of members) {
    const content = Buffer.from(member.content ?? '');
    const packed = member.method === 8 ? zlib.deflateRawSync(content) : content;
    const offset = member.offset ?? at;
    const sums = { crc: member.crc ?? zlib.crc32(content), packed: packed.byteLength };
    const size = member.size ?? content.byteLength;
    if (!member.onlyListed) {
      put(header(0x04034b50, { ...member, name: member.localName ?? member.name }, { ...sums, size }));
      put(packed);
    }
    listed.push(header(0x02014b50, member, { ...sums, size }, offset));
  }
  const directory = Buffer.concat(listed);
  const record = Buffer.alloc(22);
  record.writeUInt32LE(0x06054b50, 0);
  record.writeUInt16LE(end.disk ?? 0, 4);
  record.writeUInt16LE(end.disk ?? 0, 6);
  record.writeUInt16LE(end.entries ?? members.length, 8);
  record.writeUInt16LE(end.entries ?? members.length, 10);
  record.writeUInt32LE(directory.byteLength, 12);
  record.writeUInt32LE(end.offset ?? at, 16);
  record.writeUInt16LE(end.comment?.length ?? 0, 20);
  return Buffer.concat([...parts, directory, record, Buffer.from(end.comment ?? '', 'latin1')]);
}

function header(
  signature: number,
  { name, mode = 0o100644, system = 3, method = 0, flags = 0, extra = new Uint8Array(0) }: RawMember,
  { crc, packed, size }: { crc: number; packed: number; size: number },
  offset?: number,
): Buffer {
  const central = offset !== undefined;
  const fixed = Buffer.alloc(central ? 46 : 30);
  let at = 0;
  const u16 = (value: number) => {
    at = fixed.writeUInt16LE(value, at);
  };
  const u32 = (value: number) => {
    at = fixed.writeUInt32LE(value, at);
  };
  u32(signature);
  if (central) u16((system << 8) | 20);
  u16(20);
  u16(flags);
  u16(method);
  u32(0x5b210000);
  u32(crc);
  u32(packed);
  u32(size);
  u16(name.length);
  u16(extra.byteLength);
  if (central) {
    u16(0);
    u16(0);
    u16(0);
    u32((mode * 2 ** 16) >>> 0);
    u32(offset);
  }
  return Buffer.concat([fixed, Buffer.from(name, 'latin1'), extra]);
}

/** An extra field. */
export function extraField(id: number, content: Uint8Array): Buffer {
  const head = Buffer.alloc(4);
  head.writeUInt16LE(id, 0);
  head.writeUInt16LE(content.byteLength, 2);
  return Buffer.concat([head, content]);
}
