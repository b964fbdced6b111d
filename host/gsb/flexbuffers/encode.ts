/**
 * Writes FlexBuffers, byte for byte as the Rust crate that the bus's other programs use (exe-unit.md 2.3, 2.4): keys are
 * pooled, children come before their parent, each vector is as wide as its widest element. Indirect types are never
 * written: they make a Rust peer panic.
 */
import { type Flex, FlexFloat, FlexInt, type FlexMap, FlexUInts } from '../types.ts';
import { bodyError, FlexType, MAX_DEPTH, type WidthBits } from './format.ts';
import { GrowingBytes } from './growing-bytes.ts';

/** A value that its parent has still to store: in place, or as the distance to where it was written. */
type Stored =
  | { type: number; width: WidthBits; integer: number | bigint }
  | { type: number; width: WidthBits; float: number }
  /** `width` is that of what lies at the address. */
  | { type: number; width: WidthBits; address: number };

const NULL: Stored = { type: FlexType.null, width: 0, integer: 0 };
const FALSE: Stored = { type: FlexType.bool, width: 0, integer: 0 };
const TRUE: Stored = { type: FlexType.bool, width: 0, integer: 1 };

/** Values that come before a vector's elements: its length; a map has the distance to its keys and their width before it. */
const VECTOR_PREFIX = 1;
const MAP_PREFIX = 3;
const FIXED_LENGTHS = [2, 3, 4];

/** @throws {YavmError} YAVM_E_GSB_BODY for what FlexBuffers cannot carry: a NUL in a key, an integer beyond 64 bits, a loop */
export function encodeFlex(value: Flex): Uint8Array {
  return new Encoder().encode(value);
}

class Encoder {
  readonly #out = new GrowingBytes();
  /** Addresses of the keys written so far. */
  readonly #keys = new Map<string, number>();

  encode(value: Flex): Uint8Array {
    const root = this.#write(value, 0);
    const width = this.#widthIn(root, 0);
    this.#out.align(width);
    this.#store(root, width);
    this.#out.byte(packedType(root, width));
    this.#out.byte(1 << width);
    return this.#out.finish();
  }

  #write(value: Flex, depth: number): Stored {
    if (depth > MAX_DEPTH) throw bodyError(`nested more than ${MAX_DEPTH} levels deep`);
    if (value === null) return NULL;
    switch (typeof value) {
      case 'boolean':
        return value ? TRUE : FALSE;
      case 'number':
        return numberValue(value);
      case 'bigint':
        return value < 0n ? signed(value) : unsigned(value);
      case 'string':
        return this.#string(value);
      case 'object':
        return this.#object(value, depth);
      default:
        // Types do not reach into what a cast let through.
        throw bodyError(`a ${typeof value} in it`);
    }
  }

  #object(value: Exclude<Flex, null | boolean | number | bigint | string>, depth: number): Stored {
    if (value instanceof Uint8Array) return this.#blob(value);
    if (value instanceof FlexUInts) return this.#unsignedBytes(value.bytes);
    if (value instanceof FlexFloat) return floating(value.value);
    if (value instanceof FlexInt) return signed(value.value);
    if (value instanceof Float64Array) return this.#vector(Array.from(value, floating));
    if (isVector(value)) return this.#vector(value.map((element) => this.#write(element, depth + 1)));
    return this.#map(value, depth);
  }

  #string(text: string): Stored {
    const length = Buffer.byteLength(text);
    const width = this.#length(length);
    const address = this.#out.length;
    this.#out.text(text, length);
    this.#out.byte(0);
    return { type: FlexType.string, width, address };
  }

  #blob(bytes: Uint8Array): Stored {
    const width = this.#length(bytes.length);
    const address = this.#out.length;
    this.#out.bytes(bytes);
    return { type: FlexType.blob, width, address };
  }

  /** The length that stands before a string, a blob, or unsigned bytes; returns its width. */
  #length(length: number): WidthBits {
    const width = unsignedWidth(length);
    this.#out.align(width);
    this.#out.integer(length, width);
    return width;
  }

  #unsignedBytes(bytes: Uint8Array): Stored {
    if (bytes.length === 0) return this.#vector([]);
    const fixed = FIXED_LENGTHS.includes(bytes.length);
    const width = fixed ? 0 : this.#length(bytes.length);
    const address = this.#out.length;
    this.#out.widened(bytes, width);
    return { type: typedVector(FlexType.uint, bytes.length), width, address };
  }

  #vector(elements: Stored[]): Stored {
    const type = vectorType(elements);
    const fixed = isFixed(type);
    const prefix = fixed ? 0 : VECTOR_PREFIX;
    const width = Math.max(
      fixed ? 0 : unsignedWidth(elements.length),
      this.#widest(elements, prefix),
    ) as WidthBits;
    this.#out.align(width);
    if (!fixed) this.#out.integer(elements.length, width);
    return this.#elements(elements, type, width);
  }

  #map(map: FlexMap, depth: number): Stored {
    const entries: [key: string, address: number, value: Stored][] = [];
    for (const [key, value] of Object.entries(map)) {
      if (value === undefined) continue;
      // The key before its value: this is the order of Rust's serializer.
      const address = this.#key(key);
      entries.push([key, address, this.#write(value, depth + 1)]);
    }
    entries.sort(([a], [b]) => compareKeys(a, b));
    const keys = this.#vector(
      entries.map(([, address]): Stored => ({ type: FlexType.key, width: 0, address })),
    );
    const values = entries.map(([, , value]) => value);
    const width = Math.max(
      this.#widthIn(keys, 0),
      unsignedWidth(values.length),
      this.#widest(values, MAP_PREFIX),
    ) as WidthBits;
    this.#out.align(width);
    this.#store(keys, width);
    this.#out.integer(1 << keys.width, width);
    this.#out.integer(values.length, width);
    return this.#elements(values, FlexType.map, width);
  }

  #key(key: string): number {
    const known = this.#keys.get(key);
    if (known !== undefined) return known;
    if (key.includes('\0')) throw bodyError(`a NUL in the key ${JSON.stringify(key)}`);
    const address = this.#out.length;
    this.#out.text(key, Buffer.byteLength(key));
    this.#out.byte(0);
    this.#keys.set(key, address);
    return address;
  }

  #elements(elements: Stored[], type: number, width: WidthBits): Stored {
    const address = this.#out.length;
    for (const element of elements) this.#store(element, width);
    if (type === FlexType.vector || type === FlexType.map) {
      for (const element of elements) this.#out.byte(packedType(element, width));
    }
    return { type, width, address };
  }

  #widest(elements: Stored[], prefix: number): WidthBits {
    let widest: WidthBits = 0;
    for (let index = 0; index < elements.length; index++) {
      const width = this.#widthIn(elements[index] as Stored, prefix + index);
      if (width > widest) widest = width;
    }
    return widest;
  }

  /** Width that a value needs as the one at `index` of what is stored next: a distance grows with the way to it. */
  #widthIn(value: Stored, index: number): WidthBits {
    if (!('address' in value)) return value.width;
    for (const width of [0, 1, 2] as const) {
      const size = 1 << width;
      const at = this.#out.length + (-this.#out.length & (size - 1)) + index * size;
      if (unsignedWidth(at - value.address) <= width) return width;
    }
    return 3;
  }

  #store(value: Stored, width: WidthBits): void {
    if ('address' in value) this.#out.integer(this.#out.length - value.address, width);
    else if ('float' in value) this.#out.float(value.float, width);
    else this.#out.integer(value.integer, width);
  }
}

function isVector(value: readonly Flex[] | FlexMap): value is readonly Flex[] {
  return Array.isArray(value);
}

function numberValue(value: number): Stored {
  if (!Number.isSafeInteger(value) || Object.is(value, -0)) return floating(value);
  return value < 0 ? signed(value) : unsigned(value);
}

/** Four bytes only where they hold the number exactly: a usage vector is money. */
function floating(float: number): Stored {
  const exact = Math.fround(float) === float || Number.isNaN(float);
  return { type: FlexType.float, width: exact ? 2 : 3, float };
}

function unsigned(integer: number | bigint): Stored {
  if (integer > 0xffffffffffffffffn) throw bodyError(`the integer ${integer} has more than 64 bits`);
  return { type: FlexType.uint, width: unsignedWidth(integer), integer };
}

function signed(integer: number | bigint): Stored {
  const minimum = -0x8000000000000000n;
  if (integer < minimum || integer > 0x7fffffffffffffffn) {
    throw bodyError(`the integer ${integer} has more than 64 bits`);
  }
  if (typeof integer === 'number' && !Number.isSafeInteger(integer)) {
    throw bodyError(`${integer} is not an exact integer`);
  }
  // As wide as the unsigned one that has a bit less.
  const magnitude = integer < 0 ? -(BigInt(integer) + 1n) : BigInt(integer);
  return { type: FlexType.int, width: unsignedWidth(2n * magnitude), integer };
}

function unsignedWidth(value: number | bigint): WidthBits {
  if (value <= 0xff) return 0;
  if (value <= 0xffff) return 1;
  return value <= 0xffffffff ? 2 : 3;
}

/** Only the numbers and booleans have typed vectors, and only when all elements agree. */
function vectorType(elements: Stored[]): number {
  const first = elements[0]?.type;
  if (first === undefined || elements.some(({ type }) => type !== first)) return FlexType.vector;
  switch (first) {
    case FlexType.int:
    case FlexType.uint:
    case FlexType.float:
      return typedVector(first, elements.length);
    case FlexType.key:
      return FlexType.vectorKey;
    case FlexType.bool:
      return FlexType.vectorBool;
    default:
      return FlexType.vector;
  }
}

/** Int, UInt, Float: 1 to 3; their vectors follow one another in the same order, then those of 2, 3 and 4 elements. */
function typedVector(element: 1 | 2 | 3, length: number): number {
  if (!FIXED_LENGTHS.includes(length)) return FlexType.vectorInt + element - 1;
  return FlexType.vectorInt2 + 3 * (length - 2) + element - 1;
}

function isFixed(type: number): boolean {
  return type >= FlexType.vectorInt2 && type <= FlexType.vectorFloat4;
}

function packedType(value: Stored, parent: WidthBits): number {
  const width = 'address' in value ? value.width : Math.max(parent, value.width);
  return (value.type << 2) | width;
}

/** By their bytes, which for all but surrogates is how JavaScript compares. */
function compareKeys(a: string, b: string): number {
  return isAscii(a) && isAscii(b) ? (a < b ? -1 : 1) : Buffer.compare(Buffer.from(a), Buffer.from(b));
}

function isAscii(text: string): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: all of ASCII is meant
  return /^[\x00-\x7f]*$/.test(text);
}
