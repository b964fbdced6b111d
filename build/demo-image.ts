/** The demo image, `demo.gvmi`: a small system of busybox, so that `make run` needs no image from anywhere. */
import { createHash, randomBytes } from 'node:crypto';
import { appendFile, mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { encodeTrailer } from '../host/image/gvmi.ts';
import { verifyImage } from '../host/image/verify.ts';
import { sourceDateEpoch } from '../initramfs/build.ts';
import { runTool } from '../initramfs/tool.ts';
import { fetchBusybox } from './busybox.ts';
import { PACKAGE_CACHE } from './kernel.ts';

/** LZO, as gvmkit-build packs by default: the demo then takes the same way through the guest's kernel as published images. */
const COMPRESSOR = 'lzo';

/** Docker's ContainerConfig of the image. */
export const DEMO_CONFIG = {
  Env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'],
  Cmd: ['/bin/sh'],
  WorkingDir: '/',
  Labels: { 'org.opencontainers.image.title': 'ya-vm demo' },
} as const;

/** An entry of the image. Owned by root unless said otherwise. */
export interface TreeEntry {
  type: 'directory' | 'file' | 'symlink';
  /** Absolute in the image. */
  path: string;
  /** Permission bits; a symlink's do not count. */
  mode: number;
  uid?: number;
  gid?: number;
  /** Of a file. */
  data?: Uint8Array;
  /** Of a symlink. */
  target?: string;
}

/** The ordinary user of the image. */
const USER = { uid: 1000, gid: 1000 };

const FOLDERS: readonly Omit<TreeEntry, 'type'>[] = [
  ...['/', '/bin', '/sbin', '/usr', '/usr/bin', '/usr/sbin', '/usr/local', '/usr/local/bin'],
  ...['/etc', '/home', '/mnt', '/opt', '/srv', '/dev', '/proc', '/sys', '/run', '/var', '/var/log'],
].map((path) => ({ path, mode: 0o755 }));

const SPECIAL_FOLDERS: readonly Omit<TreeEntry, 'type'>[] = [
  { path: '/tmp', mode: 0o1777 },
  { path: '/var/tmp', mode: 0o1777 },
  { path: '/root', mode: 0o700 },
  { path: '/home/user', mode: 0o755, ...USER },
];

const TEXTS: Readonly<Record<string, string>> = {
  '/etc/passwd': `root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
user:x:${USER.uid}:${USER.gid}:user:/home/user:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/false
`,
  '/etc/group': `root:x:0:
daemon:x:1:
tty:x:5:
users:x:100:user
user:x:${USER.gid}:
nogroup:x:65534:
`,
  '/etc/shells': '/bin/sh\n/bin/ash\n',
  '/etc/profile': `export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PS1='\\u@\\h:\\w\\$ '
umask 022
`,
  '/etc/os-release': `NAME="ya-vm demo"
ID=ya-vm-demo
PRETTY_NAME="ya-vm demo (busybox)"
`,
};

/** Applets that would make no sense as programs: PID 1 is the agent. */
const NOT_LINKED = new Set(['/linuxrc', '/sbin/init', '/bin/busybox']);

export interface DemoImageOptions {
  output: string;
  /** Where the busybox package is kept. */
  cache?: string;
  /** Time of all files, seconds since the epoch; default $SOURCE_DATE_EPOCH, else 0. */
  mtime?: number;
  onProgress?: (line: string) => void;
}

/**
 * Makes the demo image; needs no root. The same busybox, mksquashfs and time make the same bytes.
 * @returns its size and SHA-256.
 * @throws {PackageError} busybox cannot be had. @throws {ToolError} mksquashfs is missing or fails.
 */
export async function buildDemoImage(options: DemoImageOptions): Promise<{ size: number; sha256: string }> {
  const { cache = PACKAGE_CACHE, onProgress } = options;
  const output = resolve(options.output);
  const mtime = options.mtime ?? sourceDateEpoch(process.env.SOURCE_DATE_EPOCH);
  const busybox = await fetchBusybox(cache, onProgress);
  const applets = (await runTool(busybox, ['--list-full'])).toString('utf8').trim().split('\n');

  const temporary = `${output}.${randomBytes(6).toString('hex')}.tmp`;
  await mkdir(dirname(output), { recursive: true });
  try {
    await packTree(demoTree(await readFile(busybox), applets), temporary, mtime);
    await appendFile(temporary, encodeTrailer(DEMO_CONFIG));
    await verifyImage(temporary);
    await rename(temporary, output);
  } finally {
    await rm(temporary, { force: true });
  }
  const bytes = await readFile(output);
  return { size: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') };
}

/** The image's tree, parents first. `applets`: paths of busybox's programs without the leading slash, as it lists them. */
export function demoTree(busybox: Uint8Array, applets: readonly string[]): TreeEntry[] {
  const links = applets.map((path) => `/${path}`).filter((path) => !NOT_LINKED.has(path));
  return [
    ...[...FOLDERS, ...SPECIAL_FOLDERS].map((folder): TreeEntry => ({ type: 'directory', ...folder })),
    { type: 'file', path: '/bin/busybox', mode: 0o755, data: busybox },
    ...Object.entries(TEXTS).map(([path, text]): TreeEntry => {
      return { type: 'file', path, mode: 0o644, data: Buffer.from(text) };
    }),
    ...links
      .sort()
      .map((path): TreeEntry => ({ type: 'symlink', path, mode: 0o777, target: '/bin/busybox' })),
  ];
}

/**
 * Packs a tree with mksquashfs from an empty folder and pseudo-file definitions: they alone give every entry its owner
 * whoever runs this (its `-tar` input ignores the root's, and `-all-root` would take the user's home).
 */
async function packTree(tree: readonly TreeEntry[], output: string, mtime: number): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'ya-vm-demo-'));
  try {
    await mkdir(join(folder, 'empty'));
    for (const [index, { data }] of tree.entries())
      if (data) await writeFile(join(folder, String(index)), data);
    await writeFile(
      join(folder, 'tree'),
      tree.map((entry, index) => `${pseudoLine(entry, index)}\n`).join(''),
    );
    await runTool('mksquashfs', squashfsArguments(output, mtime), {
      cwd: folder,
      // mksquashfs refuses to have its times given twice.
      env: { SOURCE_DATE_EPOCH: undefined },
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** `path type mode uid gid …`; a file's content is what the command writes, here from the file of that number. */
export function pseudoLine(entry: TreeEntry, index: number): string {
  const { type, path, mode, uid = 0, gid = 0, target } = entry;
  const owner = `${mode.toString(8)} ${uid} ${gid}`;
  if (type === 'directory') return `${path} d ${owner}`;
  return type === 'file' ? `${path} f ${owner} cat ${index}` : `${path} s ${owner} ${target}`;
}

function squashfsArguments(output: string, mtime: number): string[] {
  return [
    ...['empty', output, '-pf', 'tree', '-noappend', '-exit-on-error', '-quiet', '-no-progress'],
    // mksquashfs 4.6 no longer takes the root's owner from the definitions.
    ...['-root-uid', '0', '-root-gid', '0', '-root-mode', '755'],
    ...['-comp', COMPRESSOR, '-no-xattrs', '-mkfs-time', String(mtime), '-all-time', String(mtime)],
  ];
}
