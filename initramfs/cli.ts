/** `ya-vm initramfs build`: options to {@link buildInitramfs}, the result to people or JSON. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { YavmError } from '../host/lib/errors.ts';
import { signingKey } from '../host/lib/signature.ts';
import { formatSize } from '../host/lib/size.ts';
import { agentOf } from './agent.ts';
import { buildInitramfs } from './build.ts';
import { type BootOnceOf, registerLooking } from './cli-look.ts';
import { type Act, collect, json, type Streams, write } from './cli-parts.ts';
import { registerVerify } from './cli-verify.ts';
import { parseFileSpec } from './content.ts';
import { hookEntries } from './hook.ts';
import {
  DEFAULT_KERNEL_PACKAGE,
  fetchKernelPackage,
  type KernelSource,
  openKernelFiles,
} from './kernel/source.ts';
import type { Manifest } from './manifest.ts';
import { isPresetName, PRESETS, type PresetName } from './presets.ts';

export interface Defaults {
  /** What VMs boot now: `build/out`. The agent is taken from there. */
  folder: string;
  /** Whether a build without `--output` may replace that: not where it is a copy of what the program carries. */
  replaceable?: boolean;
  /** Folder for unpacked packages. */
  cache: string;
  version: string;
  /** Path of the compiler of hooks, for a build that has one; absent: `bytecode` in `folder`. */
  hookCompiler?(): string;
  /** Absent: `diff` has no `--boot`. */
  boot?: BootOnceOf;
}

interface BuildOptions {
  kernelPackage?: string;
  kernel?: string;
  modules?: string;
  config?: string;
  preset?: string;
  module?: string[];
  moduleAllOf?: string[];
  firmware?: string[];
  firmwareFrom?: string[];
  file?: string[];
  hook?: string;
  init?: string;
  sign?: string;
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
  ya-vm initramfs build --preset gpu --kernel-package linux-image-amd64 --output ./gpu
  ya-vm initramfs build --module-all-of usb --firmware 'rtl_nic/*' --firmware-from ./lib/firmware --output ./usb
  ya-vm initramfs build --hook ./hook.ts --output ./hooked
  ya-vm initramfs build --module dm_verity --file ./strace:/bin/strace:755 --output ./debug`;

/** Adds the subcommands `build`, `inspect`, `diff`, `explain` and `verify` to `command`. */
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
    .option(
      '--preset <name>',
      `which modules: ${Object.keys(PRESETS).join(', ')} (default: what the agent can use)`,
    )
    .option('--module <name>', 'one more kernel module, with what it depends on; may be repeated', collect)
    .option(
      '--module-all-of <devices>',
      'all modules for such devices: pci:virtio, usb, or how their aliases begin; may be repeated',
      collect,
    )
    .option('--firmware <name>', 'firmware by its name, with * in the last part; may be repeated', collect)
    .option(
      '--firmware-from <folder>',
      "where firmware is looked for first (default: the kernel's lib/firmware); may be repeated",
      collect,
    )
    .option('--file <src:dst[:mode]>', 'one more file; may be repeated', collect)
    .option('--hook <file>', 'TypeScript with functions that the agent calls: docs/initramfs.md, Hooks')
    .option('--init <file>', 'another program as /init (default: the agent)')
    .option('--sign <key>', 'sign the manifest with this Ed25519 key (PEM): manifest.json.sig')
    .option('--output <folder>', `where the results go (default: ${defaults.folder})`)
    .option('--cache <folder>', `where unpacked packages are kept (default: ${defaults.cache})`)
    .option('--json', 'print the manifest')
    .addHelpText('after', BUILD_EXAMPLES);
  act(build, (streams, options) => runBuild(streams, options as unknown as BuildOptions, defaults));

  registerLooking(command, act, defaults.folder, defaults.boot);
  registerVerify(command, act);
}

async function runBuild(streams: Streams, options: BuildOptions, defaults: Defaults): Promise<number> {
  const files = (options.file ?? []).map(parseFileSpec);
  const preset = parsePreset(options.preset);
  const sign = options.sign === undefined ? undefined : signingKey(options.sign);
  const kernel = await openKernel(streams, options, defaults);
  const folder = options.output ?? outputOf(defaults);
  const outputs = {
    vmlinux: join(folder, 'vmlinux'),
    initramfs: join(folder, 'initramfs.cpio.zst'),
    manifest: join(folder, 'manifest.json'),
  };
  const manifest = await buildInitramfs({
    kernel,
    init: options.init ?? (await ownAgent(defaults.folder)),
    preset,
    extraModules: options.module,
    allOf: options.moduleAllOf,
    files,
    entries: options.hook === undefined ? [] : await hookEntries(options.hook, compilerOf(defaults)),
    firmware: { names: options.firmware ?? [], folders: options.firmwareFrom },
    outputs,
    sign,
    version: defaults.version,
    agent: options.init === undefined ? defaults.version : null,
  });
  await write(streams.stdout, options.json ? json(manifest) : manifestLines(manifest, outputs).join('\n'));
  return 0;
}

function compilerOf({ folder, hookCompiler }: Defaults): string {
  return hookCompiler?.() ?? join(folder, 'bytecode');
}

function outputOf({ folder, replaceable = true }: Defaults): string {
  if (replaceable) return folder;
  throw new YavmError(
    'YAVM_E_USAGE',
    '--output FOLDER is needed: this program carries what its VMs boot by default',
  );
}

/** What the build left, or what the initramfs has: an installed program has no other. */
async function ownAgent(folder: string): Promise<string | Uint8Array> {
  const file = join(folder, 'init');
  return existsSync(file) ? file : agentOf(join(folder, 'initramfs.cpio.zst'));
}

function parsePreset(text: string | undefined): PresetName | null {
  if (text === undefined) return null;
  if (isPresetName(text)) return text;
  const known = Object.entries(PRESETS).map(([name, { summary }]) => `${name} (${summary})`);
  throw new YavmError('YAVM_E_USAGE', `--preset ${text}: no such preset`, { hint: known.join('; ') });
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
