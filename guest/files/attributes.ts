/** Extended attributes that go with a file: the user's, and capabilities. The others belong to a system, or a file system. */
import type { Native } from '../../native/face.ts';
import { hasErrno } from '../errors.ts';

export type Attribute = [name: string, value: Uint8Array];

/** What nearly every file has. */
export const NO_ATTRIBUTES: readonly Attribute[] = [];

/** Attributes of a file, and bytes of their names and values: they and two paths fit into an extended header (tar-input.ts). */
const MAX_ATTRIBUTES = 128;
const MAX_BYTES = 48 * 1024;

function isCarried(name: string): boolean {
  return name.startsWith('user.') || name === 'security.capability';
}

/** The attributes of an open file; `leftOut` counts those that are carried, but are too many or too large. @throws NativeError */
export function readAttributes(
  native: Native,
  fd: number,
): { attributes: readonly Attribute[]; leftOut: number } {
  const names = native.listXattrs(fd)?.filter(isCarried) ?? [];
  if (names.length === 0) return { attributes: NO_ATTRIBUTES, leftOut: 0 };
  const attributes: Attribute[] = [];
  let room = MAX_BYTES;
  let leftOut = 0;
  for (const name of names) {
    const value = attributeValue(native, fd, name);
    if (value === null) continue;
    const size = 2 * name.length + value.byteLength;
    if (attributes.length === MAX_ATTRIBUTES || size > room) {
      leftOut++;
      continue;
    }
    room -= size;
    attributes.push([name, value]);
  }
  return { attributes, leftOut };
}

/**
 * Sets attributes; to be called after the owner was set, which takes capabilities away. Returns how many were left out:
 * those that are not carried, and all where the file system has none. @throws NativeError
 */
export function writeAttributes(native: Native, fd: number, attributes: readonly Attribute[]): number {
  let leftOut = 0;
  for (const [name, value] of attributes) {
    if (!isCarried(name) || !setAttribute(native, fd, name, value)) leftOut++;
  }
  return leftOut;
}

/** Null: it is gone since it was listed. */
function attributeValue(native: Native, fd: number, name: string): Uint8Array | null {
  try {
    return native.getXattr(fd, name);
  } catch (error) {
    if (hasErrno(error, 'ENODATA')) return null;
    throw error;
  }
}

function setAttribute(native: Native, fd: number, name: string, value: Uint8Array): boolean {
  try {
    native.setXattr(fd, name, value);
    return true;
  } catch (error) {
    if (hasErrno(error, 'EOPNOTSUPP')) return false;
    throw error;
  }
}
