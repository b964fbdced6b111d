/**
 * The file servers (virtiofsd) of a VM's shared folders, one each; or the folders themselves, for QEMU's 9p. A server has one client, QEMU, over a socket without a
 * name, and ends when that closes; and with us, as QEMU does.
 */
import { closeSync, constants, openSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { ExitStatus, Native } from '../../native/face.ts';
import { withDeadline } from '../lib/deadline.ts';
import { deferred } from '../lib/deferred.ts';
import { YavmError } from '../lib/errors.ts';
import type { TextTail } from '../lib/text-tail.ts';
import { type ChildEnd, readMessages, watchExit } from './child.ts';
import { Descriptors } from './descriptors.ts';
import { mayOpen, modeOf, qemuUser } from './privileges.ts';
import type { ShareArguments } from './qemu-arguments.ts';
import { LISTENER, type ServerProgram, shareCommand } from './share-command.ts';
import { chooseShareWay, type ShareWay } from './share-kind.ts';
import type { ShareKind, ShareSpec } from './types.ts';
import { shareTag } from './vm-plan.ts';

export interface ShareServers {
  kind: ShareKind;
  /** For QEMU; the descriptors are to be taken over. */
  devices: ShareArguments[];
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
  /** manifest.json of what the VM boots. */
  manifest: string;
}

interface Server extends ChildEnd {
  socket: number;
  messages: TextTail;
}

const SIGKILL = 9;
const RLIMIT_CORE = 4;
/** Milliseconds for a server to end without its client. */
const END_DEADLINE = 1000;
const PATHS = ['/usr/bin', '/bin', '/usr/sbin', '/sbin'];

/**
 * Must be called in the main thread, see launchQemu.
 * @throws {YavmError} YAVM_E_VOLUMES: no way for them, or no folder; nothing is left then
 */
export function startShareServers(shares: readonly ShareSpec[], options: ShareServersOptions): ShareServers {
  const { env, manifest } = options;
  const root = process.getuid?.() === 0;
  const way: ShareWay | null = shares.length === 0 ? null : chooseShareWay({ manifest, env, root });
  if (way?.kind === 'virtiofs') return startServers(shares, way.program, options);
  return {
    kind: '9p',
    devices: openFolders(shares),
    failed: new Promise(() => {}),
    close: async () => {},
  };
}

function startServers(
  shares: readonly ShareSpec[],
  program: ServerProgram,
  options: ShareServersOptions,
): ShareServers {
  const { promise: failed, resolve: fail } = deferred<YavmError>();
  const servers: Server[] = [];
  try {
    for (const share of shares) {
      const server = startServer(share, program, options);
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
    kind: 'virtiofs',
    devices: servers.map(({ socket }, index) => ({ kind: 'virtiofs', tag: shareTag(index), fd: socket })),
    failed,
    close: async () => void (await Promise.all(servers.map(endServer))),
  };
}

/** A descriptor each: QEMU needs no path, and no right to any folder above. */
function openFolders(shares: readonly ShareSpec[]): ShareArguments[] {
  const devices: ShareArguments[] = [];
  try {
    for (const [index, { hostPath, readOnly }] of shares.entries()) {
      checkFolder(hostPath);
      const fd = openSync(hostPath, constants.O_RDONLY | constants.O_DIRECTORY);
      devices.push({ kind: '9p', tag: shareTag(index), fd, readOnly });
      checkAccess(hostPath, readOnly);
    }
    return devices;
  } catch (error) {
    for (const { fd } of devices) closeSync(fd);
    if (error instanceof YavmError) throw error;
    throw new YavmError('YAVM_E_VOLUMES', 'a folder cannot be shared with the VM', { cause: error });
  }
}

/** Under 9p it is QEMU that reads and writes the folder, as its own user. */
function checkAccess(path: string, readOnly: boolean | undefined): void {
  const user = qemuUser();
  const mode = modeOf(path);
  if (user === null || (mode && mayOpen(mode, user, readOnly ? 0o5 : 0o7))) return;
  throw new YavmError(
    'YAVM_E_VOLUMES',
    `${path}: QEMU's user ${user.uid} may not ${readOnly ? 'read' : 'write'} there`,
    {
      hint: 'Started by root, ya-vm needs virtiofsd for such a folder: sudo apt-get install virtiofsd (in Debian 12: qemu-system-common).',
    },
  );
}

async function endServer({ exited, kill }: Server): Promise<void> {
  try {
    await withDeadline(exited, END_DEADLINE, 'a file server to end');
  } catch {
    kill();
    await exited;
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
