/** A native face without a kernel: calls are recorded, files come from a map, and single calls can be replaced. */
import type { Native, NativeError } from '../../native/face.ts';

export type Call = [name: string, ...args: unknown[]];

export interface Fake {
  native: Native;
  /** Every call, in order. */
  calls: Call[];
  /** Calls of these names, in order. */
  only(...names: string[]): Call[];
  /** Descriptors that are open. */
  open: Map<number, string>;
}

/** An error as the addon throws it. */
export function systemError(code: string, syscall: string, path?: string): NativeError {
  const error = new Error(`${syscall}: ${code}${path === undefined ? '' : ` '${path}'`}`) as NativeError;
  return Object.assign(error, { code, errno: 1, syscall, path });
}

/**
 * `files`: path → content; a directory is a list of names. A path that is not there fails with ENOENT. `replace`: calls with
 * another behaviour than recording. Paths given to openBeneath are looked up without their root.
 */
export function fakeNative(
  files: Record<string, string | Uint8Array | string[]> = {},
  replace: Partial<Native> = {},
): Fake {
  const calls: Call[] = [];
  const open = new Map<number, string>();
  const positions = new Map<number, number>();
  let next = 100;
  let clock = 0;
  const openPath = (path: string, syscall: string): number => {
    if (!(path in files)) throw systemError('ENOENT', syscall, path);
    open.set(next, path);
    return next++;
  };
  const contentOf = (fd: number) => files[open.get(fd) ?? ''];
  const behaviour: Partial<Native> = {
    open: (path) => openPath(path, 'open'),
    openBeneath: (_root, path) => openPath(path, 'openat2'),
    readText: (_root, path, maximum) => {
      const fd = openPath(path, 'open');
      open.delete(fd);
      return (files[path] as string).slice(0, maximum);
    },
    close: (fd) => {
      if (!open.delete(fd)) throw systemError('EBADF', 'close');
    },
    read: (fd, buffer) => {
      const content = contentOf(fd);
      const bytes = typeof content === 'string' ? new TextEncoder().encode(content) : (content as Uint8Array);
      const at = positions.get(fd) ?? 0;
      const piece = bytes.subarray(at, at + buffer.byteLength);
      buffer.set(piece);
      positions.set(fd, at + piece.byteLength);
      return piece.byteLength;
    },
    write: (_fd, bytes) => bytes.byteLength,
    readDirectory: (fd) => (contentOf(fd) as string[]).map((name) => ({ name, type: 8 })),
    // One millisecond a look, so that deadlines come.
    monotonic: () => clock++,
    getPid: () => 1,
    ...replace,
  };
  const native = new Proxy({} as Native, {
    get: (_target, name: string) => {
      return (...args: unknown[]) => {
        calls.push([name, ...args]);
        const call = behaviour[name as keyof Native] as ((...args: unknown[]) => unknown) | undefined;
        return call?.(...args);
      };
    },
  });
  return { native, calls, open, only: (...names) => calls.filter(([name]) => names.includes(name)) };
}
