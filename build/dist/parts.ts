/** What goes into the single program: its files, their licences, and the list of where they come from. */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { QUICKJS } from '../quickjs.ts';
import { runTool } from '../tool.ts';
import { type LicensePart, packageFolders, packageLicense } from './licences.ts';
import type { PayloadFile } from './payload.ts';
import { type Component, debianComponent, npmComponents } from './sbom.ts';

const SERIALPORT =
  'node_modules/@serialport/bindings-cpp/prebuilds/linux-x64/@serialport+bindings-cpp.glibc.node';

/** Files that must be files when they are used. `out`: where the build put them. */
export function payloadFiles(out: string, licences: string): PayloadFile[] {
  const built = (name: string, zstd: boolean) => ({ name, source: join(out, name), zstd });
  return [
    built('vmlinux', true),
    built('initramfs.cpio.zst', false),
    // As it is: `ya-vm version` reads it in the program.
    built('manifest.json', false),
    built('demo.gvmi', false),
    built('yavm.node', true),
    // For `initramfs build --hook`.
    { ...built('bytecode', true), executable: true },
    { name: 'serialport.node', source: SERIALPORT, zstd: true },
    { name: 'licences.txt', source: licences, zstd: true },
  ];
}

/** What links against, or is copied from, Debian's packages. */
const DEBIAN = {
  'busybox-static': 'the programs of the demo image',
  'musl-dev': "the C library of the guest's /init and of the compiler of hooks",
} as const;

export async function licenseParts(
  sources: readonly string[],
  node: string,
  kernel: Kernel,
): Promise<LicensePart[]> {
  const packages = packageFolders(sources).map((folder): LicensePart => {
    const { name, version, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
    return { name: `${name} ${version}`, file: packageLicense(folder), note: `Licence: ${license}` };
  });
  const debian = await Promise.all(
    Object.entries(DEBIAN).map(async ([name, what]) => ({
      name: `${name} ${await installedVersion(name)}: ${what}`,
      file: `/usr/share/doc/${name}/copyright`,
      note: `Source: Debian's source package of ${name}.`,
    })),
  );
  return [
    { name: 'ya-vm', file: 'LICENSE' },
    { name: `Node.js ${process.versions.node}`, file: join(dirname(dirname(node)), 'LICENSE') },
    { name: `QuickJS ${QUICKJS.version}`, file: `build/cache/quickjs-${QUICKJS.version}/LICENSE` },
    {
      name: `Linux: ${kernel.name} ${kernel.version}`,
      file: '/usr/share/common-licenses/GPL-2',
      note: `Licence: GPL-2.0-only WITH Linux-syscall-note. Source: Debian's source package linux ${kernel.version}.`,
    },
    ...debian,
    ...packages,
  ];
}

export interface Kernel {
  name: string;
  version: string;
  sha256: string;
}

/** Debian's package of the kernel, from the manifest of the initramfs. */
export function kernelOf(manifest: string): Kernel {
  return JSON.parse(readFileSync(manifest, 'utf8')).kernel.package as Kernel;
}

export async function components(sources: readonly string[], kernel: Kernel): Promise<Component[]> {
  const debian = await Promise.all(
    Object.keys(DEBIAN).map(async (name) => debianComponent(name, await installedVersion(name))),
  );
  const node = process.versions.node;
  return [
    ...npmComponents(packageFolders(sources), 'package-lock.json'),
    ...debian,
    debianComponent(kernel.name, kernel.version, kernel.sha256),
    { name: 'node', version: node, purl: `pkg:generic/node@${node}`, license: 'MIT' },
    {
      name: 'quickjs',
      version: QUICKJS.version,
      purl: `pkg:generic/quickjs@${QUICKJS.version}`,
      license: 'MIT',
      integrity: QUICKJS.sha256,
    },
  ];
}

async function installedVersion(name: string): Promise<string> {
  // biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg's own format
  return (await runTool('dpkg-query', ['-W', '-f', '${Version}', name])).trim();
}
