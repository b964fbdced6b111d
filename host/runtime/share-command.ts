/**
 * How a file server for one shared folder is started. Pure.
 *
 * It runs in a mount namespace where the folder, without set-id programs and devices, lies at a place of its own: so the
 * server is told no path that could be anything else, and `readOnly` is the kernel's to keep. An ordinary user gets a
 * user namespace for that, in which he is root of nothing but his own files. The server then makes the folder its root.
 */

export interface ShareCommand {
  hostPath: string;
  readOnly?: boolean;
}

export interface ServerProgram {
  path: string;
  /** QEMU's own, in C, until 8.0; or the one in Rust that took over. They have other options. */
  kind: 'c' | 'rust';
}

/** Of the listening socket, in the server. */
export const LISTENER = 3;
/** Covered in the server's namespace. Every system has it (FHS), and no server needs what is in it. */
const PLACE = '/mnt';

/**
 * The shell's: $1 is the folder, $2 the mount options, the rest is the server's command line. A change of
 * credentials clears the signal at the parent's death, so it is set anew.
 */
const SCRIPT = [
  // It keeps a descriptor for every file that the guest knows.
  '{ ulimit -Sn "$(ulimit -Hn)" || true; }',
  `mount --no-canonicalize --bind -- "$1" ${PLACE}`,
  `mount -o "remount,bind,$2" ${PLACE}`,
  'shift 2',
  'exec setpriv --pdeathsig KILL -- "$@"',
].join(' && ');

/** argv of the process to start, with its program first, to be found in PATH. */
export function shareCommand(
  { hostPath, readOnly }: ShareCommand,
  server: ServerProgram,
  root: boolean,
): string[] {
  const options = `nosuid,nodev${readOnly ? ',ro' : ''}`;
  const namespaces = root ? ['--mount'] : ['--user', '--map-root-user', '--mount'];
  return [
    ...['unshare', ...namespaces, '--', '/bin/sh', '-c', SCRIPT, 'sh', hostPath, options],
    ...[server.path, ...SERVER_OPTIONS[server.kind]],
  ];
}

/**
 * Files are looked at anew at every use, because the host changes them too; the pages of one that did not change are
 * kept. No device files: a guest's would be the host's. Limits stay ours.
 */
const SERVER_OPTIONS = {
  c: [
    ...['-f', `--fd=${LISTENER}`, '-o', `source=${PLACE}`, '-o', 'sandbox=namespace'],
    ...['-o', 'cache=auto', '-o', 'timeout=0', '-o', 'modcaps=-mknod:-setfcap', '-o', 'log_level=err'],
    '--rlimit-nofile=0',
  ],
  rust: [
    ...[`--fd=${LISTENER}`, `--shared-dir=${PLACE}`, '--sandbox=namespace', '--cache=auto'],
    ...['--modcaps=-mknod:-setfcap', '--log-level=error', '--rlimit-nofile=0'],
  ],
} as const;

/** Which of the two it is, from what it answers to `--version`: `virtiofsd version 7.2.22 (…)`, or `virtiofsd 1.13.2`. */
export function serverKind(version: string): ServerProgram['kind'] {
  return /^virtiofsd\s+\d/m.test(version) ? 'rust' : 'c';
}
