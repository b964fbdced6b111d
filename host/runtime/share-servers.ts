/**
 * The file servers (virtiofsd) of a VM's shared folders, one each. A server has one client, QEMU, over a socket without a
 * name, and ends when that closes; and with us, as QEMU does.
 */
import { execFileSync } from 'node:child_process';
import { openSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { ExitStatus, Native } from '../../native/face.ts';
import { withDeadline } from '../lib/deadline.ts';
import { deferred } from '../lib/deferred.ts';
import { YavmError } from '../lib/errors.ts';
import { findProgram } from '../lib/programs.ts';
import type { TextTail } from '../lib/text-tail.ts';
import { type ChildEnd, readMessages, watchExit } from './child.ts';
import { Descriptors } from './descriptors.ts';
import type { ShareArguments } from './qemu-arguments.ts';
import { LISTENER, type ServerProgram, serverKind, shareCommand } from './share-command.ts';
import type { ShareSpec } from './types.ts';
import { shareTag } from './vm-plan.ts';

export interface ShareServers {
  /** For QEMU; the descriptors are to be taken over. */
  sockets: ShareArguments[];
  /** Resolves when a server ended by an error: what the guest does in its folder hangs from then on. */
  failed: Promise<YavmError>;
  /** Once QEMU is gone: waits for the servers to end, and ends those that do not. Never rejects. */
  close(): Promise<void>;
}

export interface ShareServersOptions {
  native: Native;
  /** Private, for the sockets as long as they have names. */
  folder: string;
  env: Readonly<Record<string, string | undefined>>;
}

interface Server extends ChildEnd {
  socket: number;
  messages: TextTail;
}

const SIGKILL = 9;
const RLIMIT_CORE = 4;
/** Milliseconds: for a server to tell its version, and to end without its client. */
const VERSION_DEADLINE = 5000;
const END_DEADLINE = 1000;
const PATHS = ['/usr/bin', '/bin', '/usr/sbin', '/sbin'];

/**
 * Must be called in the main thread, see launchQemu.
 * @throws {YavmError} YAVM_E_VOLUMES: no server, or no folder; nothing is left then
 */
export function startShareServers(shares: readonly ShareSpec[], options: ShareServersOptions): ShareServers {
  const { promise: failed, resolve: fail } = deferred<YavmError>();
  const servers: Server[] = [];
  try {
    const program = shares.length > 0 ? findServer(options.env) : null;
    for (const share of program ? shares : []) {
      const server = startServer(share, program as ServerProgram, options);
      servers.push(server);
      server.exited.then((status) => {
        if (status.code !== 0) fail(serverFailed(share, status, server.messages));
      });
    }
  } catch (error) {
    for (const { socket, kill } of servers) {
      options.native.close(socket);
      kill();
    }
    throw error;
  }
  return {
    sockets: servers.map(({ socket }, index) => ({ tag: shareTag(index), fd: socket })),
    failed,
    close: async () => void (await Promise.all(servers.map(endServer))),
  };
}

async function endServer({ exited, kill }: Server): Promise<void> {
  try {
    await withDeadline(exited, END_DEADLINE, 'a file server to end');
  } catch {
    kill();
    await exited;
  }
}

function findServer(env: ShareServersOptions['env']): ServerProgram {
  const path = findProgram('virtiofsd', env);
  try {
    const version = execFileSync(path, ['--version'], {
      encoding: 'utf8',
      timeout: VERSION_DEADLINE,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    return { path, kind: serverKind(version) };
  } catch (cause) {
    throw new YavmError('YAVM_E_VOLUMES', `${path} does not tell its version`, { cause });
  }
}

function startServer(
  share: ShareSpec,
  program: ServerProgram,
  { native, folder }: ShareServersOptions,
): Server {
  checkFolder(share.hostPath);
  const argv = shareCommand(share, program, process.getuid?.() === 0);
  const descriptors = new Descriptors(native);
  const near: number[] = [];
  try {
    const [listener, socket] = native.socketListener(join(folder, 'share'));
    near.push(socket);
    descriptors.giveAs(listener, LISTENER);
    const [read, write] = native.pipe('read', 0);
    near.push(read);
    descriptors.giveAs(openSync('/dev/null', 'r'), 0);
    descriptors.giveAs(write, 1, 2);
    const { pid, pidfd } = native.spawn({
      file: PATHS.map((path) => join(path, argv[0] as string)),
      argv,
      env: [`PATH=${PATHS.join(':')}`, 'LANG=C.UTF-8'],
      fds: descriptors.pairs,
      cwd: '/',
      newSession: true,
      noNewPrivileges: true,
      parentDeathSignal: SIGKILL,
      rlimits: [[RLIMIT_CORE, 0, 0]],
    });
    return { socket, messages: readMessages(read), ...watchExit(native, pid, pidfd) };
  } catch (cause) {
    for (const fd of near) native.close(fd);
    throw new YavmError('YAVM_E_VOLUMES', `${share.hostPath}: its file server cannot be started`, { cause });
  } finally {
    descriptors.close();
  }
}

function checkFolder(path: string): void {
  let cause: unknown;
  try {
    if (statSync(path).isDirectory()) return;
  } catch (error) {
    cause = error;
  }
  throw new YavmError('YAVM_E_VOLUMES', `${path}: not a folder that can be shared with a VM`, { cause });
}

function serverFailed({ hostPath }: ShareSpec, { code, signal }: ExitStatus, messages: TextTail): YavmError {
  const end = code === undefined ? `signal ${signal}` : `exit code ${code}`;
  const said = messages.lines(3).join('; ');
  const hint = /unshare/.test(said)
    ? 'Ordinary users must be allowed user namespaces: sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone.'
    : undefined;
  return new YavmError(
    'YAVM_E_VOLUMES',
    `the file server of ${hostPath} ended with ${end}${said && `: ${said}`}`,
    { hint },
  );
}
