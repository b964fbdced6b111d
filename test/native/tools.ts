/** What the cases do again and again: temporary folders, programs, bytes. Works under both hosts. */
import { O_CREAT, O_DIRECTORY, O_RDONLY, O_TRUNC, O_WRONLY } from '../../guest/lib/constants.ts';
import type { ExitStatus, Native, SpawnOptions } from '../../native/face.ts';

/** Linux's numbers, as <fcntl.h>, <sys/mount.h>, <sched.h> and <signal.h> have them on x86-64 and arm64. */
export {
  O_APPEND,
  O_CREAT,
  O_DIRECTORY,
  O_EXCL,
  O_NOCTTY,
  O_NONBLOCK,
  O_PATH,
  O_RDONLY,
  O_RDWR,
  O_TRUNC,
  O_WRONLY,
  S_IFCHR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  SIGHUP,
  SIGKILL,
  SIGTERM,
} from '../../guest/lib/constants.ts';

export const MS_BIND = 4096;
export const MS_REC = 16384;
export const MS_PRIVATE = 1 << 18;
export const MNT_DETACH = 2;
export const CLONE_NEWNS = 0x20000;
export const CLONE_NEWUTS = 0x4000000;
export const CLONE_NEWNET = 0x40000000;
export const SIGPIPE = 13;
export const SIGURG = 23;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export const bytes = (text: string): Uint8Array => encoder.encode(text);
export const text = (data: Uint8Array): string => decoder.decode(data);

export const sleep = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Waits until `test` holds, looking every few milliseconds. @throws when it does not within `timeout` ms. */
export async function until(what: string, test: () => boolean, timeout = 60_000): Promise<void> {
  for (let waited = 0; !test(); waited += 5) {
    if (waited > timeout) throw new Error(`${what}: not within ${timeout} ms`);
    await sleep(5);
  }
}

/** A promise with its functions outside. */
export function deferred<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => {};
  const promise = new Promise<T>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}

export function writeFile(native: Native, path: string, content: string, mode = 0o644): void {
  const fd = native.open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);
  native.write(fd, bytes(content));
  native.chmodFd(fd, mode);
  native.close(fd);
}

/** A small file whole. */
export function readFile(native: Native, path: string): string {
  const fd = native.open(path, O_RDONLY, 0);
  const buffer = new Uint8Array(64 * 1024);
  let size = 0;
  for (let count = 1; count > 0; size += count) count = native.read(fd, buffer.subarray(size));
  native.close(fd);
  return text(buffer.subarray(0, size));
}

let folders = 0;

/** Calls with an empty folder of its own and removes it afterwards; mounts beneath it are detached first. */
export async function withFolder(
  native: Native,
  use: (folder: string) => void | Promise<void>,
): Promise<void> {
  const folder = `/tmp/yavm-native-${native.getPid()}-${++folders}`;
  native.mkdir(folder, 0o755);
  try {
    await use(folder);
  } finally {
    removeTree(native, folder);
  }
}

function removeTree(native: Native, folder: string): void {
  const fd = native.open(folder, O_RDONLY | O_DIRECTORY, 0);
  for (const { name, type } of native.readDirectory(fd)) {
    if (type === 4) removeTree(native, `${folder}/${name}`);
    else native.unlinkAt(fd, name, false);
  }
  native.close(fd);
  native.rmdir(folder);
}

/** All bytes of a descriptor up to its end; closes it. */
export function readToEnd(native: Native, fd: number): Promise<string> {
  native.setNonBlocking(fd, true);
  const chunks: string[] = [];
  const buffer = new Uint8Array(64 * 1024);
  const stream = new TextDecoder();
  return new Promise((resolve) => {
    native.watch(fd, 1, () => {
      const count = native.read(fd, buffer);
      if (count < 0) return;
      if (count > 0) {
        chunks.push(stream.decode(buffer.subarray(0, count), { stream: true }));
        return;
      }
      native.unwatch(fd);
      native.close(fd);
      resolve(chunks.join(''));
    });
  });
}

/** Waits for a child through its pidfd, and closes that. */
export function ended(native: Native, child: { pid: number; pidfd: number }): Promise<ExitStatus> {
  return new Promise((resolve) => {
    native.watch(child.pidfd, 1, () => {
      const status = native.waitPid(child.pid);
      if (status === null) return;
      native.unwatch(child.pidfd);
      native.close(child.pidfd);
      resolve(status);
    });
  });
}

export interface Outcome {
  status: ExitStatus;
  output: string;
}

/** Runs a program with stdout and stderr in one pipe and stdin from /dev/null. */
export async function run(
  native: Native,
  argv: string[],
  options: Partial<SpawnOptions> = {},
): Promise<Outcome> {
  const [reader, writer] = native.pipe('read', 0);
  const input = native.open('/dev/null', O_RDONLY, 0);
  try {
    const child = native.spawn({
      file: [argv[0] as string],
      argv,
      env: ['PATH=/usr/sbin:/usr/bin:/sbin:/bin'],
      fds: [
        [input, 0],
        [writer, 1],
        [writer, 2],
      ],
      ...options,
    });
    native.close(writer);
    native.close(input);
    const [status, output] = await Promise.all([ended(native, child), readToEnd(native, reader)]);
    return { status, output };
  } catch (error) {
    for (const fd of [reader, writer, input]) native.close(fd);
    throw error;
  }
}

/** A shell's output and end. */
export const shell = (
  native: Native,
  script: string,
  options: Partial<SpawnOptions> = {},
): Promise<Outcome> => run(native, ['/bin/sh', '-c', script], options);

// ---------------------------------------------------------------- a stream of bytes that can be checked anywhere

const PERIOD = 65_521;
const TABLE = makeTable();

function makeTable(): Uint8Array {
  const table = new Uint8Array(PERIOD + 256 * 1024);
  for (let index = 0; index < table.length; index++) {
    const at = index % PERIOD;
    table[index] = (at * 31 + (at >>> 8)) & 0xff;
  }
  return table;
}

/** `length` bytes (at most 256 KiB) of the endless pattern, from `offset`. */
export function pattern(offset: number, length: number): Uint8Array {
  const start = offset % PERIOD;
  return TABLE.subarray(start, start + length);
}

/** Whether `data` is the pattern's piece at `offset`, by a sample of its bytes and both its ends. */
export function isPattern(data: Uint8Array, offset: number): boolean {
  const start = offset % PERIOD;
  for (let index = 0; index < data.length; index += 53) {
    if (data[index] !== TABLE[start + index]) return false;
  }
  const last = data.length - 1;
  return last < 0 || data[last] === TABLE[start + last];
}

/** Writes `size` bytes of the pattern into a pipe as it takes them, then closes it. Resolves at the end. */
export function feed(native: Native, fd: number, size: number): Promise<void> {
  native.setNonBlocking(fd, true);
  let offset = 0;
  return new Promise((resolve) => {
    const done = () => {
      native.unwatch(fd);
      native.close(fd);
      resolve();
    };
    if (size === 0) return done();
    native.watch(fd, 2, () => {
      for (;;) {
        const count = native.write(fd, pattern(offset, Math.min(128 * 1024, size - offset)));
        if (count < 0) return;
        offset += count;
        if (offset === size) return done();
      }
    });
  });
}

// ---------------------------------------------------------------- isolation

let isolated = false;

/**
 * Gives this thread mount, network and host-name namespaces of its own, once, for the rest of the process.
 * Skips the case when it may not.
 */
export function isolate(native: Native, assert: { skip(reason: string): never }): void {
  if (isolated) return;
  try {
    native.unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS);
  } catch (error) {
    if ((error as { code?: string }).code !== 'EPERM') throw error;
    assert.skip('needs CAP_SYS_ADMIN for namespaces of its own');
  }
  native.mount(null, '/', null, MS_REC | MS_PRIVATE, null);
  isolated = true;
}

/** Skips the case when it does not run as root. */
export function needsRoot(native: Native, assert: { skip(reason: string): never }): void {
  if (native.getUid() !== 0) assert.skip('needs root');
}
