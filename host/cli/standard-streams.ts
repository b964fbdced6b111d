/**
 * The process's own streams, each made when something more than a plain write is asked of it: Node loads sockets and
 * streams for them, 10 ms, a third of its whole start. A command that prints some lines into a file or a pipe writes
 * them itself, as Node would: synchronously.
 */
import { fstatSync, writeSync } from 'node:fs';
import { hasErrno } from '../lib/errors.ts';
import type { Context, TerminalOut } from './context.ts';

export type StandardStreams = Pick<Context, 'stdin' | 'stdout' | 'stderr' | 'env'>;

/** Of this process. Reading a stream's property, or listening to it, makes the real one. */
export function standardStreams(): StandardStreams {
  return {
    get stdin() {
      return process.stdin;
    },
    stdout: lateOutput(1, () => process.stdout),
    stderr: lateOutput(2, () => process.stderr),
    env: process.env,
  };
}

/**
 * What writes to `descriptor`, and becomes what `open` returns when it must. A terminal is real from the start.
 * @param descriptor A file, pipe or socket that nothing else has buffered bytes for.
 */
export function lateOutput(descriptor: number, open: () => TerminalOut): TerminalOut {
  let stream: TerminalOut | null = null;
  const real = (): TerminalOut => {
    if (stream !== null) return stream;
    stream = open();
    // A reader that leaves (`ya-vm ps | head -1`) ends a stream with EPIPE. Who writes a command's bytes looks for that
    // itself; for everything else there is just nobody left to tell.
    stream.on('error', () => {});
    return stream;
  };
  const write = (data: string | Uint8Array, ...more: unknown[]): boolean => {
    const [done] = more;
    // Made before, or asked for with an encoding.
    if (stream !== null || (done !== undefined && typeof done !== 'function')) {
      return Reflect.apply(real().write, real(), [data, ...more]);
    }
    const bytes = typeof data === 'string' ? Buffer.from(data) : data;
    let at = 0;
    let failure: unknown = null;
    try {
      while (at < bytes.byteLength) at += writeSync(descriptor, bytes, at);
    } catch (error) {
      // The reader is slow, and the descriptor does not wait: a stream does.
      if (hasErrno(error, 'EAGAIN'))
        return Reflect.apply(real().write, real(), [bytes.subarray(at), ...more]);
      failure = error;
    }
    if (done !== undefined) process.nextTick(done, failure);
    return true;
  };
  if (!isPlain(descriptor)) return real();
  // Without a terminal these are not there, and asking for them is no reason to make the stream.
  const known: Record<PropertyKey, unknown> = {
    write,
    isTTY: undefined,
    columns: undefined,
    rows: undefined,
  };
  return new Proxy({} as TerminalOut, {
    get(_, key) {
      if (key in known) return known[key];
      const value = Reflect.get(real(), key) as unknown;
      return typeof value === 'function' ? value.bind(real()) : value;
    },
    set: (_, key, value) => Reflect.set(real(), key, value),
    has: (_, key) => key in known || key in real(),
    getPrototypeOf: () => Object.getPrototypeOf(real()),
  });
}

/** Terminals, and other devices, are left to Node; so is what is closed. */
function isPlain(descriptor: number): boolean {
  try {
    const stat = fstatSync(descriptor);
    return stat.isFile() || stat.isFIFO() || stat.isSocket();
  } catch {
    return false;
  }
}
