/** Tar archives as an attacker writes them: every field can hold anything, one character a byte. */

const BLOCK = 512;

export interface RawHeader {
  name: string;
  /** Type flag; default '0'. */
  flag?: string;
  /** Target of a link. */
  link?: string;
  content?: Uint8Array | string;
  /** What the size field says; default: the content's size. */
  size?: number;
  mode?: number;
  /** Bytes put over the header, by offset, before its checksum is made. */
  over?: readonly [offset: number, bytes: string][];
  /** What the checksum field says, instead of the right sum. */
  checksum?: string;
}

/** Header and content, padded. */
export function tarEntry({
  name,
  flag = '0',
  link = '',
  mode = 0o644,
  over = [],
  ...rest
}: RawHeader): Buffer {
  const content = Buffer.from(rest.content ?? '');
  const block = Buffer.alloc(BLOCK);
  block.write(name, 0, 100, 'latin1');
  block.write(`${octal(mode, 7)}\0${octal(0, 7)}\0${octal(0, 7)}\0`, 100, 'latin1');
  block.write(`${octal(rest.size ?? content.byteLength, 11)}\0${octal(1_700_000_000, 11)}\0`, 124, 'latin1');
  block.write(flag, 156, 'latin1');
  block.write(link, 157, 100, 'latin1');
  block.write('ustar\x0000', 257, 'latin1');
  for (const [offset, bytes] of over) block.write(bytes, offset, 'latin1');
  block.fill(' ', 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(rest.checksum ?? `${octal(sum, 6)}\0 `, 148, 8, 'latin1');
  const padding = (BLOCK - (content.byteLength % BLOCK)) % BLOCK;
  return Buffer.concat([block, content, Buffer.alloc(padding)]);
}

/** The entries, and the end mark. */
export function rawTar(...entries: RawHeader[]): Buffer {
  return Buffer.concat([...entries.map(tarEntry), Buffer.alloc(2 * BLOCK)]);
}

/** An extended header: for the next entry, or with flag 'g' for all. */
export function paxHeader(records: Readonly<Record<string, string>>, flag = 'x'): RawHeader {
  const content = Object.entries(records).map(([key, value]) => record(key, value));
  return { name: 'pax', flag, content: Buffer.from(content.join(''), 'latin1') };
}

/** GNU's long name, or with flag 'K' long target, of the next entry. */
export function gnuLong(text: string, flag = 'L'): RawHeader {
  return { name: '././@LongLink', flag, content: Buffer.from(`${text}\0`, 'latin1') };
}

function record(key: string, value: string): string {
  const rest = ` ${key}=${value}\n`;
  let length = rest.length;
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
  return `${length}${rest}`;
}

function octal(value: number, digits: number): string {
  return value.toString(8).padStart(digits, '0');
}
