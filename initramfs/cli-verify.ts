/** `ya-vm initramfs verify`: whether a folder is what somebody has signed. */
import { stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Command } from 'commander';
import { YavmError } from '../host/lib/errors.ts';
import { isSetWhole } from '../host/lib/kernel-check.ts';
import { checkSignature, trustedKey } from '../host/lib/signature.ts';
import { type Act, json, write } from './cli-parts.ts';

const EXAMPLES = `
Every byte of kernel and initramfs is compared with the manifest, and the manifest with its signature. Exit code 0: all is as it
was signed.

Examples:
  openssl genpkey -algorithm ed25519 -out key.pem
  openssl pkey -in key.pem -pubout -out trusted.pem
  ya-vm initramfs build --sign key.pem --output ./mine
  ya-vm initramfs verify ./mine --key trusted.pem`;

export function registerVerify(command: Command, act: Act): void {
  const verify = command
    .command('verify')
    .argument('<path>', 'folder with vmlinux, initramfs.cpio.zst and manifest.json')
    .requiredOption('--key <file>', 'the Ed25519 key that is trusted (PEM, public)')
    .description('whether a kernel and its initramfs are what was signed')
    .option('--json', 'print an object')
    .addHelpText('after', EXAMPLES);
  act(verify, async ({ stdout }, options, [path]) => {
    const folder = (await isFolder(path as string)) ? (path as string) : dirname(path as string);
    const files = {
      kernel: join(folder, 'vmlinux'),
      initramfs: join(folder, 'initramfs.cpio.zst'),
      manifest: join(folder, 'manifest.json'),
    };
    checkSignature(files.manifest, trustedKey(options.key as string));
    if (!isSetWhole(null, files))
      throw new YavmError('YAVM_E_KERNEL_SIGNATURE', `${folder}: not what the signed manifest describes`);
    await write(stdout, options.json ? json({ folder, signed: true }) : `${folder}: as it was signed`);
    return 0;
  });
}

async function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (at) => at.isDirectory(),
    () => false,
  );
}
