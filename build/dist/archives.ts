/** The packages that people install: an archive, and Debian's. The same inputs make the same bytes. */
import { createHash } from 'node:crypto';
import { chmodSync, copyFileSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { ourDescriptor } from '../../host/provider/descriptor.ts';
import { runTool } from '../tool.ts';
import type { ShellFile } from './shell-files.ts';

export interface Contents {
  version: string;
  /** Built files to put in. */
  program: string;
  licences: string;
  sbom: string;
  /** Manual pages and completions. */
  shell: readonly ShellFile[];
  /** Seconds since 1970, for every file. */
  epoch: number;
  /** A folder for what is in between; emptied. */
  work: string;
}

/** `ya-vm_VERSION_amd64` */
export function packageName(version: string): string {
  return `ya-vm_${version}_amd64`;
}

/** The archive: one folder with the program and what belongs to it. */
export async function buildArchive(contents: Contents, output: string): Promise<void> {
  const { version, program, licences, sbom, shell, epoch, work } = contents;
  const top = packageName(version);
  emptyFolder(work);
  put(program, join(work, top, 'ya-vm'), 0o755);
  put('LICENSE', join(work, top, 'LICENSE'));
  put(licences, join(work, top, 'licences.txt'));
  put(sbom, join(work, top, 'sbom.cdx.json'));
  put('docs/install.md', join(work, top, 'install.md'));
  for (const { archived, bytes } of shell) write(join(work, top, archived), bytes);
  const tar = `${output}.tar`;
  await runTool('tar', [
    ...['--create', '--file', tar, '--directory', work, '--format=ustar', '--sort=name'],
    ...['--owner=0', '--group=0', '--numeric-owner', `--mtime=@${epoch}`, top],
  ]);
  // The result does not depend on the number of threads. Level 19 would take four minutes of a core for 2 MB less.
  await runTool('zstd', ['-q', '-f', '-12', '-T0', '--rm', '-o', output, tar]);
}

/** Without these ya-vm boots nothing; with those it can do all that it offers. */
const DEPENDS = 'qemu-system-x86, e2fsprogs, libc6 (>= 2.28), libstdc++6, libgcc-s1';
const RECOMMENDS = 'passt, squashfs-tools, virtiofsd | qemu-system-common';

/** Debian's package: program, the provider's descriptor, manual pages, completions, licences. */
export async function buildDebianPackage(contents: Contents, output: string): Promise<void> {
  const { version, program, licences, sbom, shell, epoch, work } = contents;
  emptyFolder(work);
  const root = join(work, 'root');
  put(program, join(root, 'usr/bin/ya-vm'), 0o755);
  put(licences, join(root, 'usr/share/doc/ya-vm/copyright'));
  put(sbom, join(root, 'usr/share/doc/ya-vm/sbom.cdx.json'));
  write(
    join(root, 'usr/lib/yagna/plugins/ya-vm.json'),
    ourDescriptor({ version, supervisor: '/usr/bin/ya-vm' }),
  );
  for (const { installed, bytes } of shell) write(join(root, installed), bytes);
  const kibibytes = Math.ceil(statSync(program).size / 1024) + 64;
  write(join(root, 'DEBIAN/control'), controlFile(version, kibibytes));
  await runTool('env', [
    `SOURCE_DATE_EPOCH=${epoch}`,
    ...['dpkg-deb', '--root-owner-group', '-Zzstd', '-z12', '--build', root, output],
  ]);
}

export function controlFile(version: string, installedKibibytes: number): string {
  return `Package: ya-vm
Version: ${version}
Architecture: amd64
Maintainer: ya-vm <ya-vm@localhost>
Installed-Size: ${installedKibibytes}
Depends: ${DEPENDS}
Recommends: ${RECOMMENDS}
Section: admin
Priority: optional
Description: virtual machines for Golem providers
 Supervisor and runtime of a Golem provider in one program, with the kernel
 that its virtual machines boot, and tools to build and test images.
`;
}

/** `SHA256SUMS` of `files`, for `sha256sum -c` in their folder. */
export function checksums(files: readonly string[]): string {
  const lines = files.map((file) => {
    const digest = createHash('sha256').update(readFileSync(file)).digest('hex');
    return `${digest}  ${basename(file)}\n`;
  });
  return lines.join('');
}

function put(from: string, to: string, mode = 0o644): void {
  mkdirSync(dirname(to), { recursive: true, mode: 0o755 });
  copyFileSync(from, to);
  chmodSync(to, mode);
}

function write(to: string, contents: string | Uint8Array): void {
  mkdirSync(dirname(to), { recursive: true, mode: 0o755 });
  writeFileSync(to, contents);
  chmodSync(to, 0o644);
}

function emptyFolder(path: string): void {
  rmSync(path, { recursive: true, force: true });
  mkdirSync(path, { recursive: true, mode: 0o755 });
}
