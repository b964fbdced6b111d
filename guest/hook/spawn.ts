/** Programs that a hook runs. Its process does nothing else meanwhile: reads block. */
import type { ExitStatus, Native } from '../../native/face.ts';
import { O_CLOEXEC, O_RDWR, SIGKILL } from '../lib/constants.ts';
import { sleep } from '../lib/sleep.ts';
import type { HookResult, HookSpawn } from './api.ts';

/** Of a program's output, bytes; what comes after it is read and dropped. */
const MAX_OUTPUT = 256 * 1024;
const CHUNK = 16 * 1024;
/** Milliseconds between looks at a program that has closed its output. */
const POLL = 2;
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** `rootFd`: of the task; absent: the initramfs. @throws NativeError when it cannot be started */
export async function runProgram(
  native: Native,
  argv: readonly string[],
  { cwd, env = { PATH } }: HookSpawn,
  rootFd: number | undefined,
): Promise<HookResult> {
  const [name = ''] = argv;
  const file = name.includes('/') ? [name] : (env.PATH ?? PATH).split(':').map((each) => `${each}/${name}`);
  const [read, write] = native.pipe('none', 0);
  const nothing = native.open('/dev/null', O_RDWR | O_CLOEXEC, 0);
  let pid: number;
  try {
    const child = native.spawn({
      ...{ file, argv: [...argv], cwd, rootFd, umask: 0o022 },
      env: Object.entries(env).map(([key, value]) => `${key}=${value}`),
      fds: [
        [nothing, 0],
        [write, 1],
        [write, 2],
      ],
      // It goes when the hook's time is up.
      parentDeathSignal: SIGKILL,
    });
    native.close(child.pidfd);
    pid = child.pid;
  } catch (error) {
    native.close(read);
    throw error;
  } finally {
    native.close(write);
    native.close(nothing);
  }
  const output = readOutput(native, read);
  let status: ExitStatus | null = native.waitPid(pid);
  while (status === null) {
    await sleep(POLL);
    status = native.waitPid(pid);
  }
  return { code: status.code ?? null, signal: status.signal ?? null, output };
}

function readOutput(native: Native, fd: number): string {
  const decoder = new TextDecoder();
  const chunk = new Uint8Array(CHUNK);
  let text = '';
  let total = 0;
  for (let count = native.read(fd, chunk); count > 0; count = native.read(fd, chunk)) {
    if (total < MAX_OUTPUT) text += decoder.decode(chunk.subarray(0, count), { stream: true });
    total += count;
  }
  native.close(fd);
  return text;
}
