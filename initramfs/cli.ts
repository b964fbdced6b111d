/** `ya-vm initramfs build|inspect`: options to {@link buildInitramfs} and {@link inspect}, results to people or JSON. */
import { join } from 'node:path';
import type { Writable } from 'node:stream';
import type { Command } from 'commander';
import { YavmError } from '../host/lib/errors.ts';
import { printable } from '../host/lib/logger.ts';
import { formatSize } from '../host/lib/size.ts';
import { buildInitramfs } from './build.ts';
import { parseFileSpec } from './content.ts';
import { type Inspection, inspect } from './inspect.ts';
import {
  DEFAULT_KERNEL_PACKAGE,
  fetchKernelPackage,
  type KernelSource,
  openKernelFiles,
} from './kernel/source.ts';
import type { Manifest, ManifestEntry } from './manifest.ts';

/** Where a command writes: results to stdout, progress to stderr. */
export interface Streams {
  stdout: Writable;
  stderr: Writable;
}

/** Ties a handler to a command; the command line as a whole reports what it throws. */
export type Act = (
  command: Command,
  handler: (streams: Streams, options: Record<string, unknown>, operands: unknown[]) => Promise<number>,
) => void;

export interface Defaults {
  /** Folder of the results, and where `init` is looked for: `build/out`. */
  folder: string;
  /** Folder for unpacked packages. */
  cache: string;
  version: string;
}

interface BuildOptions {
  kernelPackage?: string;
  kernel?: string;
  modules?: string;
  config?: string;
  module?: string[];
  file?: string[];
  init?: string;
  output?: string;
  cache?: string;
  json?: boolean;
}

const BUILD_EXAMPLES = `
Writes vmlinux, initramfs.cpio.zst and manifest.json. Needs no root; installs nothing.

Examples:
  ya-vm initramfs build                                     Debian's cloud kernel and the agent
  ya-vm initramfs build --kernel-package linux-image-amd64  its generic kernel: 9p, more drivers
  ya-vm initramfs build --kernel-package ./linux-image-6.1.0-56-cloud-amd64_6.1.192-2_amd64.deb
  ya-vm initramfs build --kernel /boot/vmlinuz-6.8.0-45-generic --modules /lib/modules/6.8.0-45-generic
  ya-vm initramfs build --module dm_verity --file ./strace:/bin/strace:755 --output ./debug`;

const INSPECT_EXAMPLES = `
Examples:
  ya-vm initramfs inspect                        what VMs boot now
  ya-vm initramfs inspect ./debug                one of yours, by its folder or file
  ya-vm initramfs inspect --json | jq .modules`;

/** Adds the subcommands `build` and `inspect` to `command`. */
export function registerInitramfs(command: Command, act: Act, defaults: Defaults): void {
  const build = command
    .command('build')
    .description('make vmlinux and initramfs from a kernel package, or from any kernel and its modules')
    .option(
      '--kernel-package <name|file>',
      `Debian kernel package, or .deb (default: ${DEFAULT_KERNEL_PACKAGE})`,
    )
    .option('--kernel <file>', 'vmlinuz or vmlinux of any distribution; with --modules')
    .option('--modules <folder>', 'its /lib/modules/<release>')
    .option('--config <file>', 'its configuration (default: looked for beside the kernel)')
    .option('--module <name>', 'one more kernel module; may be repeated', collect)
    .option('--file <src:dst[:mode]>', 'one more file; may be repeated', collect)
    .option('--init <file>', 'another program as /init (default: the agent)')
    .option('--output <folder>', `where the results go (default: ${defaults.folder})`)
    .option('--cache <folder>', `where unpacked packages are kept (default: ${defaults.cache})`)
    .option('--json', 'print the manifest')
    .addHelpText('after', BUILD_EXAMPLES);
  act(build, (streams, options) => runBuild(streams, options as unknown as BuildOptions, defaults));

  const look = command
    .command('inspect')
    .argument('[path]', 'initramfs, or its folder', defaults.folder)
    .description('list what is in an initramfs')
    .option('--json', 'print an object')
    .addHelpText('after', INSPECT_EXAMPLES);
  act(look, async ({ stdout }, options, [path]) => {
    const found = await inspect(path as string);
    await write(stdout, options.json ? json(found) : inspectionLines(found).join('\n'));
    return 0;
  });
}

async function runBuild(streams: Streams, options: BuildOptions, defaults: Defaults): Promise<number> {
  const files = (options.file ?? []).map(parseFileSpec);
  const kernel = await openKernel(streams, options, defaults);
  const folder = options.output ?? defaults.folder;
  const outputs = {
    vmlinux: join(folder, 'vmlinux'),
    initramfs: join(folder, 'initramfs.cpio.zst'),
    manifest: join(folder, 'manifest.json'),
  };
  const manifest = await buildInitramfs({
    kernel,
    init: options.init ?? join(defaults.folder, 'init'),
    extraModules: options.module,
    files,
    outputs,
    version: defaults.version,
    agent: options.init === undefined ? defaults.version : null,
  });
  await write(streams.stdout, options.json ? json(manifest) : manifestLines(manifest, outputs).join('\n'));
  return 0;
}

async function openKernel(
  streams: Streams,
  options: BuildOptions,
  defaults: Defaults,
): Promise<KernelSource> {
  const { kernelPackage, kernel, modules, config } = options;
  if (kernel !== undefined && modules !== undefined && kernelPackage === undefined)
    return openKernelFiles({ kernel, modules, config });
  if (kernel !== undefined || modules !== undefined || config !== undefined)
    throw new YavmError(
      'YAVM_E_USAGE',
      '--kernel and --modules belong together, and exclude --kernel-package',
      {
        hint: "'ya-vm initramfs build --help' shows examples.",
      },
    );
  const onProgress = (line: string) => streams.stderr.write(`${line}\n`);
  return fetchKernelPackage({ folder: options.cache ?? defaults.cache, onProgress }, kernelPackage);
}

/** What a build made, for people. */
export function manifestLines(manifest: Manifest, outputs: { vmlinux: string; initramfs: string }): string[] {
  const { kernel, sizes, modules, builtin, absent } = manifest;
  const early = modules.filter(({ stage }) => stage === 'hello').length;
  const from = kernel.package ? ` (${kernel.package.name} ${kernel.package.version})` : '';
  return [
    `kernel     ${kernel.release}${from}`,
    `vmlinux    ${formatSize(manifest.vmlinux.size)}  ${outputs.vmlinux}`,
    `initramfs  ${formatSize(manifest.initramfs.size)}, without modules ${formatSize(sizes.base)}  ${outputs.initramfs}`,
    `modules    ${modules.length}, ${early} of them before hello (${formatSize(sizes.modules)} unpacked)`,
    ...(builtin.length > 0 ? [`built in   ${builtin.join(', ')}`] : []),
    ...(absent.length > 0 ? [`absent     ${absent.join(', ')} (optional)`] : []),
  ];
}

/** What an initramfs holds, for people. Names in it are made harmless for a terminal. */
export function inspectionLines(found: Inspection): string[] {
  const { manifest, manifestProblem } = found;
  const packed = found.compression
    ? `${found.compression}, ${formatSize(found.unpacked)} unpacked`
    : 'not compressed';
  const from = manifest?.kernel.package
    ? ` (${manifest.kernel.package.name} ${manifest.kernel.package.version})`
    : '';
  return [
    `${found.path}: ${formatSize(found.size)} (${packed}), sha256 ${found.sha256}`,
    `kernel ${found.release ?? 'of any release: no modules'}${from}`,
    ...(manifest ? [`agent ${manifest.agent ?? 'foreign'}, built by ya-vm ${manifest.builder}`] : []),
    ...(manifestProblem ? [`manifest.json beside it is not used: ${manifestProblem}`] : []),
    '',
    ...found.entries.map(entryLine),
  ].map(printable);
}

function entryLine(entry: ManifestEntry): string {
  const kind = { directory: 'd', file: '-', symlink: 'l', character: 'c', block: 'b' }[entry.type];
  const size = entry.size ?? entry.device ?? '';
  const target = entry.target === undefined ? '' : ` -> ${entry.target}`;
  return `${kind} ${entry.mode ?? '    '} ${String(size).padStart(9)} ${entry.path}${target}`;
}

function json(value: unknown): string {
  return JSON.stringify(value, null, 2);
}

/** Resolves when the stream took the text; a reader that left is the stream owner's affair. */
function write(stream: Writable, text: string): Promise<void> {
  return new Promise((resolve) => {
    stream.write(`${text}\n`, () => resolve());
  });
}

function collect(value: string, before: string[] = []): string[] {
  return [...before, value];
}
