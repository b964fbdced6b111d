/**
 * passt: the program of the distribution that makes connections of the host out of a guest's frames. It runs as QEMU does:
 * without privileges, in namespaces of its own, on a cable without a name, and ends with that and with us.
 */
import { execFile } from 'node:child_process';
import { openSync } from 'node:fs';
import { promisify } from 'node:util';
import type { HostNative } from '../../../native/host-face.ts';
import { withDeadline } from '../../lib/deadline.ts';
import { YavmError } from '../../lib/errors.ts';
import { findProgram } from '../../lib/programs.ts';
import type { TextTail } from '../../lib/text-tail.ts';
import { readMessages, watchExit } from '../../runtime/child.ts';
import { Descriptors } from '../../runtime/descriptors.ts';
import { qemuUser } from '../../runtime/privileges.ts';
import { firstAnswer } from './passt-answer.ts';
import {
  missingOptions,
  type PasstOptions,
  type PasstProgram,
  parsePasst,
  passtArguments,
} from './passt-arguments.ts';

export interface Passt {
  pid: number;
  /** Our end of its cable. Who takes it closes it, which ends passt. */
  fd: number;
  exited: Promise<PasstEnd>;
  /** SIGKILL; does nothing to one that has ended. */
  kill(): void;
}

export interface PasstEnd {
  /** With its last words. */
  error: YavmError;
  /** It ended by itself, and in order: its cable was closed, or somebody asked it to. */
  orderly: boolean;
}

type Environment = Readonly<Record<string, string | undefined>>;

const SIGKILL = 9;
const RLIMIT_CORE = 4;
/**
 * Bytes of each buffer of the cable; root may have as many, others get what net.core.wmem_max allows. A frame that finds no room
 * is lost, and passt sends it again after two seconds at the earliest: so there is room for a window of many connections.
 */
const CABLE = 16 * 1024 * 1024;
/** Milliseconds for it to say what it can, and for its first answer. */
const DEADLINE = 10_000;

/** @throws {YavmError} YAVM_E_NET_PASST: it is not installed, or too old */
export async function findPasst(env: Environment): Promise<PasstProgram> {
  const path = findProgram('passt', env);
  const program = parsePasst(path, await outputOf(path, '--help'), await outputOf(path, '--version'));
  const missing = missingOptions(program);
  if (missing.length === 0) return program;
  throw new YavmError('YAVM_E_NET_PASST', `${path} cannot be used: it has no ${missing.join(', ')}`, {
    hint: 'ya-vm needs the passt of Debian 12 or newer: sudo apt-get install passt',
  });
}

/** Both streams, whatever its exit code: that of a version that prints help with an error is as good. */
async function outputOf(path: string, word: string): Promise<string> {
  const options = { timeout: DEADLINE, env: { PATH: '/usr/bin:/bin', LC_ALL: 'C.UTF-8' } };
  const ran = promisify(execFile)(path, [word], options);
  const { stdout, stderr } = await ran.catch((error: { stdout?: string; stderr?: string }) => error);
  return `${stdout ?? ''}\n${stderr ?? ''}`;
}

/**
 * Starts it and waits until it answers on its cable. Must be called in the main thread, see launchQemu.
 * @throws {YavmError} YAVM_E_NET_PUBLISH: a port cannot be had; YAVM_E_NET_PASST: it does not run, with its last words
 */
export async function startPasst(
  program: PasstProgram,
  options: Omit<PasstOptions, 'fd'>,
  native: HostNative,
): Promise<Passt> {
  const { fd, ...child } = spawnPasst(program, options, native);
  const ended = child.exited.then(() => false);
  const answer = (signal: AbortSignal) => Promise.race([firstAnswer(fd, native, signal), ended]);
  try {
    if (await withDeadline(answer, DEADLINE, 'passt')) return { fd, ...child };
  } catch (cause) {
    native.close(fd);
    child.kill();
    throw new YavmError('YAVM_E_NET_PASST', 'passt does not answer on its cable', { cause });
  }
  native.close(fd);
  // The cable's end is its own; this one is for a passt that has closed it and lives.
  child.kill();
  throw (await child.exited).error;
}

function spawnPasst(program: PasstProgram, options: Omit<PasstOptions, 'fd'>, native: HostNative): Passt {
  const descriptors = new Descriptors(native);
  const near: number[] = [];
  try {
    const [fd, far] = native.cable('unix', CABLE);
    near.push(fd);
    const cable = descriptors.give(far);
    // What did not fit of a frame it sends in a call that has to wait; without that the stream is damaged.
    native.setNonBlocking(far, false);
    const [read, write] = native.pipe('read', 0);
    near.push(read);
    descriptors.giveAs(openSync('/dev/null', 'r'), 0);
    descriptors.giveAs(write, 1, 2);
    const user = qemuUser();
    const { pid, pidfd } = native.spawn({
      file: [program.path],
      argv: [program.path, ...passtArguments(program, { ...options, fd: cable })],
      env: ['PATH=/usr/bin:/bin', 'LANG=C.UTF-8'],
      fds: descriptors.pairs,
      cwd: '/',
      // As nobody from the start: it would become that itself, but its change of user takes the parent's death signal back.
      ...(user ? { ...user, groups: [] } : {}),
      newSession: true,
      noNewPrivileges: true,
      parentDeathSignal: SIGKILL,
      rlimits: [[RLIMIT_CORE, 0, 0]],
    });
    const messages = readMessages(read);
    const { exited, kill } = watchExit(native, pid, pidfd);
    const end = exited.then(async (status) => {
      // Its last words may still be on their way through the pipe.
      await new Promise((resolve) => setImmediate(resolve));
      return { error: passtEnded(status, messages), orderly: status.code === 0 };
    });
    return { pid, fd, exited: end, kill };
  } catch (cause) {
    for (const fd of near) native.close(fd);
    throw new YavmError('YAVM_E_NET_PASST', `${program.path} cannot be started`, { cause });
  } finally {
    descriptors.close();
  }
}

/** What it says when a user namespace cannot be had, the most likely reason for which it does not run. */
const NO_NAMESPACE = /user namespace|isolat|unshare/i;
const NAMESPACE_HINT =
  'Ordinary users must be allowed user namespaces: sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone.';
const NO_PORT =
  /bind any port for '?(?:-\S+ )?([^\s']+)|Failed to (?:listen|bind)[^\n]*|Overlapping port[^\n]*/i;
const PORT_HINT =
  'Another program has the port, another --publish too; or it is below 1024: sysctl net.ipv4.ip_unprivileged_port_start.';
const NO_ROUTE = /external interface|routable interface/i;

/** @param status How it ended. Its complaints about a missing syslog are left out. */
export function passtEnded(
  status: { code?: number; signal?: number },
  messages: Pick<TextTail, 'lines'>,
): YavmError {
  const said = messages
    .lines(20)
    .filter((line) => !/^Failed to send \d+ bytes to syslog$/.test(line))
    .slice(-3)
    .join('; ');
  if (NO_PORT.test(said)) {
    return new YavmError('YAVM_E_NET_PUBLISH', `a port cannot be published: passt says: ${said}`, {
      hint: PORT_HINT,
    });
  }
  const end = status.code === undefined ? `signal ${status.signal}` : `exit code ${status.code}`;
  const hint = NO_NAMESPACE.test(said)
    ? NAMESPACE_HINT
    : NO_ROUTE.test(said)
      ? 'This host has no default route: ip route; ip -6 route'
      : undefined;
  return new YavmError('YAVM_E_NET_PASST', `passt ended with ${end}${said && `: ${said}`}`, { hint });
}
