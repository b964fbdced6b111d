/** Compressed tars: told by their first bytes, whatever name or media type says, and expanded to a file without a name. */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { Duplex } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { YavmError } from '../../lib/errors.ts';
import { findProgram, type ProgramName } from '../../lib/programs.ts';
import { formatSize } from '../../lib/size.ts';
import { ImageArchiveError, ImageDigestError } from '../errors.ts';
import { gunzip, unzstd } from './engine.ts';
import { piecesOf, readPart, type Section } from './section.ts';
import { Spool } from './spool.ts';

export type Compression = 'gzip' | 'zstd' | 'xz' | 'bzip2';

interface Row {
  name: Compression;
  /** First bytes. */
  magic: Buffer;
  engine(): Duplex;
}

const ROWS: readonly Row[] = [
  { name: 'gzip', magic: Buffer.from([0x1f, 0x8b]), engine: gunzip },
  {
    name: 'zstd',
    magic: Buffer.from([0x28, 0xb5, 0x2f, 0xfd]),
    engine: unzstd,
  },
  { name: 'xz', magic: Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0]), engine: () => program('xz') },
  { name: 'bzip2', magic: Buffer.from('BZh'), engine: () => program('bzip2') },
];

/** Most bytes of one expanded tar: what an image may have at most when it is downloaded. */
const MAX_EXPANDED = 64 * 1024 ** 3;

/** Null: not compressed, or in no way that is known. */
export function compressionOf(section: Section): Compression | null {
  return rowOf(section)?.name ?? null;
}

function rowOf(section: Section): Row | undefined {
  const head = readPart(section, 0, Math.min(section.size, 8));
  return ROWS.find(({ magic }) => head.subarray(0, magic.length).equals(magic));
}

export interface ExpandOptions {
  signal: AbortSignal;
  /** Where the expanded bytes go. */
  folder: string;
  /** SHA-256 in hex that the bytes must have: as they are stored, and expanded. Absent: not known. */
  stored?: string;
  plain?: string;
  /** Stored bytes that were read. */
  onBytes?: (count: number) => void;
  /** Gets the check of a section that is not compressed, under way; without it that is waited for. */
  defer?: (check: Promise<void>) => void;
}

export interface Expanded {
  section: Section;
  /** Null: the section itself, which was not compressed. */
  spool: Spool | null;
}

/**
 * A section as a tar, its digests checked on the way.
 * @throws {YavmError} YAVM_E_IMAGE_DIGEST, YAVM_E_IMAGE_ARCHIVE (damaged, or far too large), YAVM_E_DISK_FULL,
 * YAVM_E_IMAGE_BUILD, YAVM_E_COMPRESSOR_MISSING; the signal's reason
 */
export async function expand(section: Section, options: ExpandOptions): Promise<Expanded> {
  const row = rowOf(section);
  if (!row) {
    const check = checkPlain(section, options);
    if (options.defer) options.defer(check);
    else await check;
    return { section, spool: null };
  }
  const spool = new Spool(options.folder);
  try {
    await decompress(section, row, spool, options);
    return { section: spool.section(section.name), spool };
  } catch (error) {
    spool.close();
    throw error;
  }
}

async function checkPlain(section: Section, options: ExpandOptions): Promise<void> {
  const { stored, plain, signal, onBytes } = options;
  if (stored === undefined && plain === undefined) {
    onBytes?.(section.size);
    return;
  }
  const hash = createHash('sha256');
  for await (const piece of piecesOf(section, signal)) {
    hash.update(piece);
    onBytes?.(piece.length);
  }
  const found = hash.digest('hex');
  checkDigest(section.name, found, stored);
  checkDigest(section.name, found, plain);
}

async function decompress(
  section: Section,
  row: Row,
  spool: Spool,
  { signal, stored, plain, onBytes }: ExpandOptions,
): Promise<void> {
  const [storedHash, plainHash] = [createHash('sha256'), createHash('sha256')];
  async function* read(): AsyncGenerator<Buffer> {
    for await (const piece of piecesOf(section, signal)) {
      storedHash.update(piece);
      onBytes?.(piece.length);
      // The stream behind keeps it while the next is read.
      yield Buffer.from(piece);
    }
  }
  try {
    await pipeline(
      read,
      row.engine(),
      async (chunks: AsyncIterable<Buffer>) => {
        for await (const chunk of chunks) {
          if (plain !== undefined) plainHash.update(chunk);
          spool.write(chunk);
          if (spool.size > MAX_EXPANDED)
            throw new ImageArchiveError(
              `${section.name}: has more than ${formatSize(MAX_EXPANDED)} expanded`,
            );
        }
      },
      { signal },
    );
  } catch (cause) {
    signal.throwIfAborted();
    if (cause instanceof YavmError) throw cause;
    throw new ImageArchiveError(`${section.name}: the ${row.name} data is damaged`, {
      cause,
      hint: 'Save or copy it again.',
    });
  }
  checkDigest(section.name, storedHash.digest('hex'), stored);
  if (plain !== undefined) checkDigest(section.name, plainHash.digest('hex'), plain);
}

/** @throws {ImageDigestError} */
export function checkDigest(name: string, found: string, expected: string | undefined): void {
  if (expected === undefined || found === expected) return;
  throw new ImageDigestError(`${name}: its SHA-256 is ${found}, but it should be ${expected}`, {
    hint: 'Damaged, or not what it says it is: save or copy it again.',
  });
}

/** A program of the distribution as a stream: bytes in, bytes out, an error when it ends with one. */
function program(name: Extract<ProgramName, 'xz' | 'bzip2'>): Duplex {
  const child = spawn(findProgram(name), ['-dc'], { stdio: ['pipe', 'pipe', 'ignore'] });
  const ended = new Promise<void>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      if (code === 0) resolve();
      else reject(new Error(`${name} ended with ${signal ?? `status ${code}`}`));
    });
  });
  ended.catch(() => {});
  async function* output(): AsyncGenerator<Buffer> {
    for await (const chunk of child.stdout) yield chunk as Buffer;
    await ended;
  }
  const duplex = Duplex.from({ readable: output(), writable: child.stdin });
  duplex.once('close', () => child.kill('SIGKILL'));
  return duplex;
}
