/** `ya-vm driver-layer`: what a passed-through card needs in the VM, as a file beside the images. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { buildLayer } from '../driver-layer/build.ts';
import { inspectLayer, verifyLayer } from '../driver-layer/inspect.ts';
import type { LayerManifest } from '../driver-layer/manifest.ts';
import { printable } from '../lib/logger.ts';
import { formatSize } from '../lib/size.ts';
import type { Act } from './commands.ts';
import { print, printJson } from './context.ts';
import { EXIT } from './exit.ts';
import { Interrupts } from './interrupts.ts';

const HELP = `
SOURCE is a folder or a .deb; several are taken as one. Needed are kernel modules (nvidia, nvidia-uvm) that were built
for the kernel that VMs boot, and the libraries and the firmware of the same driver version. Same sources, same bytes.

Examples:
  sh NVIDIA-Linux-x86_64-550.163.01.run --extract-only
  ya-vm driver-layer build NVIDIA-Linux-x86_64-550.163.01 /lib/modules/6.1.0-56-amd64/updates/dkms
  apt-get download libcuda1 libnvidia-ml1 nvidia-smi firmware-nvidia-gsp
  ya-vm driver-layer build --kernel-release 6.1.0-56-amd64 ./modules *.deb`;

export function define(command: Command, act: Act): void {
  const build = command
    .command('build')
    .argument('<source...>', 'folders and .deb files with the parts of the driver')
    .description('make a driver layer without root')
    .option('-o, --output <file>', 'where the layer goes', 'driver.squashfs')
    .option('--kernel-release <release>', 'kernel that the modules must be for, as uname -r prints it')
    .option('--json', 'print the manifest')
    .addHelpText('after', HELP);
  act(build, async (context, options, [sources]) => {
    const output = resolve(options.output as string);
    const epoch = Number(context.env.SOURCE_DATE_EPOCH ?? 0);
    const interrupts = new Interrupts();
    let manifest: LayerManifest;
    try {
      manifest = await buildLayer({
        sources: sources as string[],
        output,
        kernelRelease: options.kernelRelease as string | undefined,
        time: Number.isSafeInteger(epoch) && epoch >= 0 ? epoch : 0,
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
