/**
 * Reads FlexBuffers: all types and widths, also those that no peer of ours writes. Whoever wrote them is not trusted:
 * every offset, length and count is checked, and since one piece can be referred to many times, what is read is counted
 * too. Facts: the spec's exe-unit.md, 2.4.
 */
import { type Flex, FlexUInts } from '../types.ts';
import { bodyError, FlexType, MAX_DEPTH, type WidthBits } from './format.ts';

export interface FlexLimits {
  /** Levels of maps and vectors in one another. */
  depth: number;
  /** Values; elements of a Float64Array or a FlexUInts, and keys, do not count. */
  values: number;
  /** Bytes of strings, blobs, keys and typed vectors, by how often they are referred to. */
  bytes: number;
}

/** A hundred times what a batch of 200 commands has. */
const MAX_VALUES = 262_144;
/** An honest buffer refers to each of its strings once. */
const BYTES_FACTOR = 4;
const SPARE_BYTES = 65_536;

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * Reads a buffer. Maps become objects without prototype, vectors arrays, integers beyond 2^53 bigints, keys strings.
 *
 * Typed vectors: floats become a Float64Array; unsigned integers, unless there are just 2 to 4 of them or one is greater than
 * 255, a {@link FlexUInts} (without a copy where the buffer has them as bytes); others arrays. `flexBytes` and
 * `flexNumbers` of values.ts take what a field can come as. Blobs and FlexUInts are views of `bytes`.
 * @throws {YavmError} YAVM_E_GSB_BODY
 */
export function decodeFlex(bytes: Uint8Array, limits: Partial<FlexLimits> = {}): Flex {
  return new Decoder(bytes, {
    depth: MAX_DEPTH,
    values: MAX_VALUES,
    bytes: BYTES_FACTOR * bytes.length + SPARE_BYTES,
    ...limits,
  }).decode();
}

class Decoder {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #limits: FlexLimits;
  /** Keys by their address: most are used many times. */
  readonly #keys = new Map<number, string>();

  constructor(bytes: Uint8Array, limits: FlexLimits) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#limits = { ...limits };
  }

  decode(): Flex {
    const size = this.#bytes.length;
    if (size < 3) throw bodyError(`it has ${size} bytes`);
    const width = widthOf(this.#bytes[size - 1] as number);
    const at = size - 2 - (1 << width);
    if (at < 0) throw bodyError('its root is wider than it is long');
    return this.#value(at, width, this.#bytes[size - 2] as number, 0);
  }

  /** The value in the slot at `at`, which is as wide as its parent says. */
  #value(at: number, slot: WidthBits, packed: number, depth: number): Flex {
    this.#spend(1);
    const type = packed >> 2;
    switch (type) {
      case FlexType.null:
        return null;
      case FlexType.bool:
        return this.#uint(at, slot) !== 0;
      case FlexType.int:
        return this.#int(at, slot);
      case FlexType.uint:
        return this.#uint(at, slot);
      case FlexType.float:
        return this.#float(at, slot);
      default:
        return this.#reference(this.#target(at, slot), type, (packed & 3) as WidthBits, depth);
    }
  }

  #reference(at: number, type: number, width: WidthBits, depth: number): Flex {
    switch (type) {
      case FlexType.key:
        return this.#key(at);
      case FlexType.string:
        return this.#string(at, width);
      case FlexType.indirectInt:
        return this.#int(at, width);
      case FlexType.indirectUInt:
        return this.#uint(at, width);
      case FlexType.indirectFloat:
        return this.#float(at, width);
      case FlexType.blob:
        return this.#slice(at, this.#count(at, width));
      case FlexType.map:
        return this.#map(at, width, depth + 1);
      case FlexType.vector:
        return this.#vector(at, width, depth + 1);
      case FlexType.vectorKey:
      case FlexType.vectorString:
      case FlexType.vectorBool:
        return this.#list(at, width, elementOf(type), depth + 1);
      default:
        return this.#numbers(at, width, type);
    }
  }

  #vector(at: number, width: WidthBits, depth: number): Flex[] {
    this.#enter(depth);
    const count = this.#count(at, width);
    const types = this.#types(at, width, count);
    const elements: Flex[] = [];
    for (let index = 0; index < count; index++) {
      elements.push(this.#value(at + (index << width), width, types[index] as number, depth));
    }
    return elements;
  }

  /** A typed vector of something other than numbers. */
  #list(at: number, width: WidthBits, packed: number, depth: number): Flex[] {
    this.#enter(depth);
    const count = this.#count(at, width);
    const elements: Flex[] = [];
    for (let index = 0; index < count; index++) {
      elements.push(this.#value(at + index * (1 << width), width, packed, depth));
    }
    return elements;
  }

  #map(at: number, width: WidthBits, depth: number): Flex {
    this.#enter(depth);
    const count = this.#count(at, width);
    const types = this.#types(at, width, count);
    const size = 1 << width;
    const keys = this.#target(at - 3 * size, width);
    const keyWidth = widthOf(this.#safe(at - 2 * size, width));
    if (this.#count(keys, keyWidth) !== count) throw bodyError('a map has not as many keys as values');
    const map: Record<string, Flex> = { __proto__: null } as never;
    for (let index = 0; index < count; index++) {
      const key = this.#key(this.#target(keys + (index << keyWidth), keyWidth));
      if (key in map) throw bodyError(`a map has the key ${JSON.stringify(key.slice(0, 100))} twice`);
      map[key] = this.#value(at + (index << width), width, types[index] as number, depth);
    }
    return map;
  }

  /** A typed vector of numbers, its length before it or in its type. */
  #numbers(at: number, width: WidthBits, type: number): Flex {
    const fixed = type >= FlexType.vectorInt2 && type <= FlexType.vectorFloat4;
    if (!fixed && (type < FlexType.vectorInt || type > FlexType.vectorFloat)) {
      throw bodyError(`the type ${type} in it`);
    }
    const kind = FlexType.int + (fixed ? (type - FlexType.vectorInt2) % 3 : type - FlexType.vectorInt);
    const count = fixed ? 2 + Math.trunc((type - FlexType.vectorInt2) / 3) : this.#count(at, width);
    this.#slice(at, count * (1 << width));
    if (kind === FlexType.float) {
      return Float64Array.from({ length: count }, (_, index) => this.#float(at + (index << width), width));
    }
    if (kind === FlexType.uint && !fixed) {
      const bytes = this.#unsignedBytes(at, width, count);
      if (bytes !== undefined) return new FlexUInts(bytes);
    }
    // An array costs eight times what a byte does in the buffer.
    this.#spend(count);
    const read = kind === FlexType.int ? this.#int : this.#uint;
    return Array.from({ length: count }, (_, index) => read.call(this, at + (index << width), width));
  }

  /** Undefined when one of them is greater than 255. */
  #unsignedBytes(at: number, width: WidthBits, count: number): Uint8Array | undefined {
    const source = this.#bytes.subarray(at, at + count * (1 << width));
    if (width === 0) return source;
    const bytes = new Uint8Array(count);
    let above = 0;
    for (let index = 0, from = 0; index < count; index++) {
      bytes[index] = source[from++] as number;
      for (let rest = 1 << width; rest > 1; rest--) above |= source[from++] as number;
    }
    return above === 0 ? bytes : undefined;
  }

  #string(at: number, width: WidthBits): string {
    const length = this.#count(at, width);
    const bytes = this.#slice(at, length);
    if (this.#bytes[at + length] !== 0) throw bodyError('a string does not end with NUL');
    return this.#text(bytes);
  }

  #key(at: number): string {
    const known = this.#keys.get(at);
    if (known !== undefined) return known;
    const end = this.#bytes.indexOf(0, at);
    if (end === -1) throw bodyError('a key does not end');
    const key = this.#text(this.#slice(at, end - at));
    this.#keys.set(at, key);
    return key;
  }

  #text(bytes: Uint8Array): string {
    try {
      return utf8.decode(bytes);
    } catch (error) {
      throw bodyError('a text that is not UTF-8', error);
    }
  }

  /** The types that follow `count` elements. */
  #types(at: number, width: WidthBits, count: number): Uint8Array {
    const start = at + count * (1 << width);
    if (start + count > this.#bytes.length) throw bodyError('a vector is longer than what is there');
    return this.#bytes.subarray(start, start + count);
  }

  /** `length` bytes, counted. */
  #slice(at: number, length: number): Uint8Array {
    if (at + length > this.#bytes.length) throw bodyError(`${length} bytes at ${at} are not there`);
    this.#limits.bytes -= length;
    if (this.#limits.bytes < 0) throw bodyError('the same bytes are referred to too often');
    return this.#bytes.subarray(at, at + length);
  }

  #spend(values: number): void {
    this.#limits.values -= values;
    if (this.#limits.values < 0) throw bodyError('too many values');
  }

  #enter(depth: number): void {
    if (depth > this.#limits.depth) throw bodyError(`nested more than ${this.#limits.depth} levels deep`);
  }

  /** Where the distance in a slot leads. */
  #target(at: number, width: WidthBits): number {
    const distance = this.#safe(at, width);
    if (distance > at) throw bodyError(`a reference at ${at} leads before the beginning`);
    return at - distance;
  }

  /** The length that stands before `at`. */
  #count(at: number, width: WidthBits): number {
    return this.#safe(at - (1 << width), width);
  }

  /** An unsigned integer that counts bytes or elements: none can be beyond 2^53. */
  #safe(at: number, width: WidthBits): number {
    const value = this.#uint(at, width);
    if (typeof value === 'bigint') throw bodyError(`the length or distance ${value}`);
    return value;
  }

  #uint(at: number, width: WidthBits): number | bigint {
    this.#check(at, width);
    if (width === 0) return this.#view.getUint8(at);
    if (width === 1) return this.#view.getUint16(at, true);
    return width === 2 ? this.#view.getUint32(at, true) : narrow(this.#view.getBigUint64(at, true));
  }

  #int(at: number, width: WidthBits): number | bigint {
    this.#check(at, width);
    if (width === 0) return this.#view.getInt8(at);
    if (width === 1) return this.#view.getInt16(at, true);
    return width === 2 ? this.#view.getInt32(at, true) : narrow(this.#view.getBigInt64(at, true));
  }

  #float(at: number, width: WidthBits): number {
    this.#check(at, width);
    if (width < 2) throw bodyError(`a float of ${1 << width} bytes`);
    return width === 2 ? this.#view.getFloat32(at, true) : this.#view.getFloat64(at, true);
  }

  #check(at: number, width: WidthBits): void {
    if (at < 0 || at + (1 << width) > this.#bytes.length) throw bodyError(`a value at ${at} is not there`);
  }
}

function widthOf(size: number): WidthBits {
  const width = [1, 2, 4, 8].indexOf(size);
  if (width === -1) throw bodyError(`a width of ${size} bytes`);
  return width as WidthBits;
}

/** Packed type of a typed vector's elements. Strings' lengths are bytes there: that is why the type was given up. */
function elementOf(type: number): number {
  if (type === FlexType.vectorBool) return FlexType.bool << 2;
  return (type === FlexType.vectorKey ? FlexType.key : FlexType.string) << 2;
}

function narrow(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}
