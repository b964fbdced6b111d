/** Files with holes in a tar: GNU's old form (type S), and the three forms that pax headers have (0.0, 0.1, 1.0). */
import { BLOCK, decodeNumber } from '../../lib/tar/header.ts';
import { type PaxRecord, paxNumber, wholeNumber } from '../../lib/tar/pax.ts';
import { ImageArchiveError } from '../errors.ts';
import { readPart, type Section } from './section.ts';

/** A part of a file that has content; the rest reads as zeros. */
export interface Segment {
  /** In the file, bytes. */
  at: number;
  size: number;
}

export interface SparseMap {
  /** Bytes of the file, holes included. */
  size: number;
  segments: Segment[];
  /** Bytes of the archive that the map itself takes, before the content. */
  mapSize: number;
}

/** Segments of one file at most. */
const MAX_SEGMENTS = 1_000_000;

const OLD_FIRST = { at: 386, entries: 4, more: 482 };
const OLD_REAL_SIZE = [483, 12] as const;
const OLD_NEXT = { at: 0, entries: 21, more: 504 };

/** GNU's old form: the map begins in the header and goes on in blocks behind it. */
export function oldSparse(header: Buffer, archive: Section, behind: number): SparseMap {
  const segments: Segment[] = [];
  const take = (block: Buffer, { at, entries, more }: typeof OLD_FIRST, offset: number): boolean => {
    const number = (place: number) => decodeNumber(block, 'hole', [place, 12], offset);
    for (let index = 0; index < entries; index++) {
      const place = at + index * 24;
      if (block[place + 12] === 0) break;
      segments.push({ at: number(place), size: number(place + 12) });
    }
    return block[more] !== 0;
  };
  const place = behind - BLOCK;
  let mapSize = 0;
  for (let more = take(header, OLD_FIRST, place); more; mapSize += BLOCK) {
    checkCount(segments.length);
    const at = behind + mapSize;
    more = take(readPart(archive, at, BLOCK), OLD_NEXT, at);
  }
  return { size: decodeNumber(header, 'size', OLD_REAL_SIZE, place), segments, mapSize };
}

/** The pax forms; null when the records tell of no holes. `content` is where the entry's content begins. */
export function paxSparse(
  records: readonly PaxRecord[],
  archive: Section,
  content: { at: number; size: number },
): SparseMap | null {
  const of = (key: string) => records.findLast((record) => record[0] === `GNU.sparse.${key}`);
  const number = (record: PaxRecord) => count(record, content.at);
  if (of('major')?.[1] === '1') {
    const size = of('realsize');
    if (!size) throw new ImageArchiveError('a sparse file has no size');
    return { size: number(size), ...mapBefore(archive, content) };
  }
  const size = of('size');
  if (!size) return null;
  const map = of('map');
  const numbers = map
    ? map[1]
        .split(',')
        .filter((text) => text !== '')
        .map((text) => number([map[0], text]))
    : records.filter(([key]) => /^GNU\.sparse\.(offset|numbytes)$/.test(key)).map(number);
  return { size: number(size), segments: pairs(numbers), mapSize: 0 };
}

/** Form 1.0: decimal lines before the content, their count first, padded to a block. */
function mapBefore(
  archive: Section,
  content: { at: number; size: number },
): { segments: Segment[]; mapSize: number } {
  let mapSize = 0;
  let rest = '';
  const next = (): number => {
    let end = rest.indexOf('\n');
    for (; end < 0; end = rest.indexOf('\n')) {
      if (mapSize + BLOCK > content.size || rest.length > BLOCK)
        throw new ImageArchiveError('the map of a sparse file is damaged');
      rest += readPart(archive, content.at + mapSize, BLOCK).toString('latin1');
      mapSize += BLOCK;
    }
    const line = rest.slice(0, end);
    rest = rest.slice(end + 1);
    return count(['GNU.sparse.map', line], content.at);
  };
  const length = next();
  checkCount(length);
  const segments = Array.from({ length }, () => ({ at: next(), size: next() }));
  return { segments, mapSize };
}

function count(record: PaxRecord, offset: number): number {
  return wholeNumber(paxNumber(record, offset), Number.MAX_SAFE_INTEGER, record[0], offset);
}

function pairs(numbers: readonly number[]): Segment[] {
  if (numbers.length % 2 !== 0) throw new ImageArchiveError('the map of a sparse file has an odd number');
  checkCount(numbers.length / 2);
  const segments: Segment[] = [];
  for (let index = 0; index < numbers.length; index += 2)
    segments.push({ at: numbers[index] as number, size: numbers[index + 1] as number });
  return segments;
}

/** @throws {ImageArchiveError} the segments overlap, leave the file, or are not what the archive holds. */
export function checkSparse({ size, segments }: SparseMap, stored: number): void {
  let end = 0;
  let sum = 0;
  for (const segment of segments) {
    if (segment.at < end || segment.at + segment.size > size)
      throw new ImageArchiveError('the parts of a sparse file overlap, or lie outside of it');
    end = segment.at + segment.size;
    sum += segment.size;
  }
  if (sum !== stored)
    throw new ImageArchiveError(`a sparse file has ${sum} bytes by its map, but ${stored} are there`);
}

function checkCount(length: number): void {
  if (length > MAX_SEGMENTS) throw new ImageArchiveError(`a sparse file has more than ${MAX_SEGMENTS} parts`);
}
