/** Runs a program of the host with bounded time and output. */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { ToolError } from './errors.ts';

export interface ToolOptions {
  /** Bytes for its stdin; none: /dev/null. */
  input?: Uint8Array;
  cwd?: string;
  /** Added to the environment. `undefined` removes a variable. */
  env?: Record<string, string | undefined>;
  /** Milliseconds until it is killed; default 2 minutes. */
  timeout?: number;
  /** Largest stdout that is accepted, bytes; default 16 MiB. */
  maxOutput?: number;
  /** Ends it, with SIGTERM: make then ends what it has started. */
  signal?: AbortSignal;
}

/** Debian package that has each program: for the hint when it is missing. */
const PACKAGE_OF: Record<string, string> = {
  'apt-get': 'apt',
  'apt-cache': 'apt',
  bzip2: 'bzip2',
  depmod: 'kmod',
  'dpkg-deb': 'dpkg',
  lz4: 'lz4',
  lzop: 'lzop',
  mksquashfs: 'squashfs-tools',
  xz: 'xz-utils',
  zstd: 'zstd',
};

/** What is kept of stderr for an error message, bytes. */
const STDERR_KEPT = 4096;

/** Runs `command`; resolves with its stdout. Injected where tests replace the effects. */
export type RunTool = (command: string, args: string[], options?: ToolOptions) => Promise<Buffer>;

/**
 * Runs `command` to its end and returns what it wrote to stdout.
 * @throws {ToolError} It is not installed (hint: the Debian package), failed (message: its stderr), exceeded
 * `timeout`, or wrote more than `maxOutput`; the reason of `signal`, when that has ended it
 */
export const runTool: RunTool = (command, args, options = {}) => {
  const { input, cwd, timeout = 120_000, maxOutput = 16 * 1024 * 1024, signal: ender } = options;
  // C.UTF-8: output is parsed. The sbin folders: depmod is there, and a user's PATH often lacks them.
  const env: NodeJS.ProcessEnv = { ...process.env, LC_ALL: 'C.UTF-8', ...options.env };
  env.PATH = `${process.env.PATH ?? '/usr/bin:/bin'}:/usr/sbin:/sbin`;
  return new Promise((resolve, reject) => {
    ender?.throwIfAborted();
    const child = spawn(command, args, { cwd, env, stdio: [input ? 'pipe' : 'ignore', 'pipe', 'pipe'] });
    const out: Buffer[] = [];
    let size = 0;
    let errors = '';
    let reason: string | undefined;
    const stop = (why: string) => {
      reason ??= why;
      child.kill('SIGKILL');
    };
    const timer = setTimeout(() => stop(`did not end within ${timeout / 1000} s`), timeout);
    const end = () => void child.kill('SIGTERM');
    ender?.addEventListener('abort', end);
    const over = () => {
      clearTimeout(timer);
      ender?.removeEventListener('abort', end);
    };
    child.stdout?.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size > maxOutput) stop(`wrote more than ${maxOutput} bytes`);
      else out.push(chunk);
    });
    child.stderr?.on('data', (chunk: Buffer) => {
      errors = (errors + chunk.toString('utf8')).slice(-STDERR_KEPT);
    });
    // A program that ends before it has read everything (EPIPE) is judged by its exit status.
    child.stdin?.on('error', () => {});
    child.stdin?.end(input);
    child.on('error', (cause: NodeJS.ErrnoException) => {
      over();
      reject(startError(command, cwd, cause));
    });
    child.on('close', (code, signal) => {
      over();
      if (ender?.aborted) return reject(ender.reason);
      if (code === 0 && reason === undefined) return resolve(Buffer.concat(out));
      const how = reason ?? (signal ? `was ended by ${signal}` : `failed with status ${code}`);
      const said = errors.trim();
      reject(new ToolError(`${[command, ...args].join(' ')}: ${how}${said ? `: ${said}` : ''}`));
    });
  });
};

function startError(command: string, cwd: string | undefined, cause: NodeJS.ErrnoException): ToolError {
  // A working folder that is missing gives ENOENT too.
  if (cause.code !== 'ENOENT' || (cwd !== undefined && !existsSync(cwd)))
    return new ToolError(`${command}: cannot be started`, { cause });
  const name = PACKAGE_OF[command];
  return new ToolError(`${command}: not installed on this machine`, {
    cause,
    hint: name ? `apt-get install ${name} (Debian's package; other distributions name it alike)` : undefined,
  });
}
