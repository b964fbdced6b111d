/** `ya-vm driver-layer`: what a passed-through card needs in the VM, as a file beside the images. */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { buildLayer } from '../driver-layer/build.ts';
import { DriverLayerError } from '../driver-layer/errors.ts';
import type { AptRequest } from '../driver-layer/from-apt.ts';
import { inspectLayer, verifyLayer } from '../driver-layer/inspect.ts';
import type { LayerManifest } from '../driver-layer/manifest.ts';
import { bootFiles } from '../lib/kernel-set.ts';
import { printable } from '../lib/logger.ts';
import { checkLayerSignature, signingKey, trustedKey } from '../lib/signature.ts';
import { formatSize } from '../lib/size.ts';
import type { Act } from './commands.ts';
import { type Context, note, print, printJson } from './context.ts';
import { EXIT } from './exit.ts';
import { Interrupts } from './interrupts.ts';
import { usageError } from './options.ts';

const HELP = `
SOURCE is a folder or a .deb; several are taken as one. Needed are kernel modules (nvidia, nvidia-uvm) that were built
for the kernel that VMs boot, and the libraries and the firmware of the same driver version. Same sources, same bytes.
--from-apt takes all of them from the distribution's packages: modules are built from the sources that dkms takes, with the
headers of the kernel set's kernel. Nothing is installed. It takes the kernel's compiler, make and binutils, and minutes.

Examples:
  ya-vm driver-layer build --from-apt
  ya-vm driver-layer build --from-apt 535 --apt-sources non-free.list --kernel-release 6.1.0-57-amd64
  sh NVIDIA-Linux-x86_64-550.163.01.run --extract-only
  ya-vm driver-layer build NVIDIA-Linux-x86_64-550.163.01 /lib/modules/6.1.0-56-amd64/updates/dkms
  apt-get download libcuda1 libnvidia-ml1 nvidia-smi firmware-nvidia-gsp
  ya-vm driver-layer build --kernel-release 6.1.0-56-amd64 ./modules *.deb`;

const VERIFY_EXAMPLES = `
The signature is FILE.sig. Exit code 0: the layer is as it was signed.

Examples:
  openssl genpkey -algorithm ed25519 -out key.pem
  openssl pkey -in key.pem -pubout -out trusted.pem
  ya-vm driver-layer build --from-apt --sign key.pem
  ya-vm driver-layer verify driver.squashfs --key trusted.pem`;

export function define(command: Command, act: Act): void {
  const build = command
    .command('build')
    .argument('[source...]', 'folders and .deb files with the parts of the driver')
    .description('make a driver layer without root')
    .option('-o, --output <file>', 'where the layer goes', 'driver.squashfs')
    .option('--kernel-release <release>', 'kernel that the modules must be for, as uname -r prints it')
    .option('--from-apt [version]', "take the distribution's packages, of this driver version or branch")
    .option(
      '--apt-sources <file>',
      'ask these sources, in the format of sources.list(5), not those of this host',
    )
    .addOption(
      new Option(
        '--modules <kind>',
        "which modules to build; none: SOURCE has them (default: as NVIDIA's installer, open since 560)",
      ).choices(['open', 'proprietary', 'none']),
    )
    .option('--kernel-set <name>', 'build them for the kernel of this set (default: gpu)')
    .option('--sign <key>', 'sign the layer with this Ed25519 key (PEM): FILE.sig')
    .option('--json', 'print the manifest')
    .addHelpText('after', HELP);
  act(build, async (context, options, [sources]) => {
    const output = resolve(options.output as string);
    const sign = options.sign === undefined ? undefined : signingKey(options.sign as string);
    const apt = aptRequest(context, options);
    if (apt === undefined && (sources as string[]).length === 0)
      throw usageError('name folders and .deb files, or --from-apt');
    const epoch = Number(context.env.SOURCE_DATE_EPOCH ?? 0);
    const interrupts = new Interrupts();
    let manifest: LayerManifest;
    try {
      manifest = await buildLayer({
        sources: sources as string[],
        output,
        apt,
        kernelRelease: apt?.kernelRelease ?? (options.kernelRelease as string | undefined),
        time: Number.isSafeInteger(epoch) && epoch >= 0 ? epoch : 0,
        sign,
        signal: interrupts.signal,
      });
    } finally {
      interrupts.close();
    }
    if (options.json) await printJson(context, { file: output, ...manifest });
    else await print(context, ...layerLines(output, manifest));
    return EXIT.ok;
  });

  const inspect = command
    .command('inspect')
    .argument('<file>', 'driver layer')
    .description('print what is in a driver layer; exit code 125 when it is none')
    .option('--verify', 'read all files, and compare their hashes')
    .option('--json', 'print an object')
    .addHelpText(
      'after',
      '\nExamples:\n  ya-vm driver-layer inspect driver.squashfs\n  ya-vm driver-layer inspect --verify driver.squashfs',
    );
  act(inspect, async (context, options, [path]) => {
    const file = path as string;
    const manifest = await inspectLayer(file);
    if (options.verify) await verifyLayer(file, manifest);
    if (options.json) await printJson(context, { file, ...manifest });
    else await print(context, ...layerLines(file, manifest));
    return EXIT.ok;
  });

  defineVerify(command, act);
}

function defineVerify(command: Command, act: Act): void {
  const verify = command
    .command('verify')
    .argument('<file>', 'driver layer')
    .requiredOption('--key <file>', 'the Ed25519 key that is trusted (PEM, public)')
    .description('whether a driver layer is what was signed, every byte of it')
    .option('--json', 'print an object')
    .addHelpText('after', VERIFY_EXAMPLES);
  act(verify, async (context, options, [path]) => {
    const file = path as string;
    await checkLayerSignature(file, trustedKey(options.key as string));
    if (options.json) await printJson(context, { file, signed: true });
    else await print(context, printable(`${file}: as it was signed`));
    return EXIT.ok;
  });
}

/** @throws {YavmError} YAVM_E_USAGE; YAVM_E_KERNEL_SET, YAVM_E_DRIVER_LAYER: the set does not say its kernel */
function aptRequest(context: Context, options: Record<string, unknown>): AptRequest | undefined {
  const { fromApt, aptSources, modules, kernelSet, kernelRelease } = options as Record<
    string,
    string | undefined
  >;
  if (fromApt === undefined) {
    const lonely = { '--apt-sources': aptSources, '--modules': modules, '--kernel-set': kernelSet };
    const [name] = Object.entries(lonely).find(([, value]) => value !== undefined) ?? [];
    if (name !== undefined) throw usageError(`${name} is for --from-apt`);
    return undefined;
  }
  const [version, release] = [typeof fromApt === 'string' ? fromApt : undefined, kernelRelease];
  if (version !== undefined && !/^[0-9][A-Za-z0-9.+~:-]{0,63}$/.test(version))
    throw usageError(`--from-apt: ${JSON.stringify(version)} is no version of a driver`);
  if (release !== undefined && !/^[0-9][a-z0-9.+~_-]{0,63}$/.test(release))
    throw usageError(`--kernel-release: ${JSON.stringify(release)} is no release of a kernel`);
  return {
    version,
    modules: modules as AptRequest['modules'],
    kernelRelease: release ?? releaseOf(bootFiles(context.env, kernelSet ?? 'gpu').manifest),
    sources: aptSources,
    say: (line) => void note(context, line),
  };
}

function releaseOf(manifest: string): string {
  try {
    const { kernel } = JSON.parse(readFileSync(manifest, 'utf8')) as { kernel?: { release?: unknown } };
    if (typeof kernel?.release === 'string') return kernel.release;
  } catch (cause) {
    throw new DriverLayerError(`${manifest}: cannot be read`, { cause });
  }
  throw new DriverLayerError(`${manifest}: does not say which kernel it is for`, {
    hint: '--kernel-release RELEASE',
  });
}

function layerLines(file: string, manifest: LayerManifest): string[] {
  const { driverVersion, kernelRelease, vermagic, files } = manifest;
  const size = files.reduce((sum, each) => sum + ('size' in each ? each.size : 0), 0);
  return [
    `${file}: driver ${driverVersion} for kernel ${kernelRelease} (${vermagic.trim()})`,
    `${files.length} files, ${formatSize(size)} unpacked`,
    ...files.map((each) => `  ${each.path}${'link' in each ? ` -> ${each.link}` : ''}`),
  ].map(printable);
}
