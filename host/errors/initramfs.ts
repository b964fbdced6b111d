/** Errors of building kernels and initramfs. */
import type { Section } from './section.ts';

export const INITRAMFS = {
  title: 'Building the initramfs',
  rows: [
    { codes: ['YAVM_E_INITRAMFS_TOOL'], meaning: 'a program that the builder needs is missing or failed' },
    {
      codes: ['YAVM_E_INITRAMFS_PACKAGE'],
      meaning: 'the kernel package cannot be found, fetched, verified or unpacked',
    },
    {
      codes: ['YAVM_E_INITRAMFS_KERNEL'],
      meaning: 'the file is no Linux x86-64 kernel, or cannot be unpacked',
    },
    {
      codes: ['YAVM_E_INITRAMFS_CONFIG'],
      meaning: 'the kernel lacks something that the guest needs',
      helps: 'a kernel built with the CONFIG symbols that the message names',
    },
    { codes: ['YAVM_E_INITRAMFS_MODULE'], meaning: 'a kernel module is missing or does not fit' },
    { codes: ['YAVM_E_INITRAMFS_CONTENT'], meaning: 'a `--file` or the `/init` cannot be put in' },
    {
      codes: ['YAVM_E_INITRAMFS_HOOK'],
      meaning:
        'a [`--hook`](initramfs.md#hooks) is no program, exports nothing that is called, cannot be compiled, or needs esbuild',
    },
    {
      codes: ['YAVM_E_INITRAMFS_HOOK_VERSION'],
      meaning:
        'a hook and the `/init` beside it are of different versions of ya-vm (`--init`): bytecode of one is not for the other',
      helps: '`--hook` with the `ya-vm` that the `/init` is from',
    },
    {
      codes: ['YAVM_E_KERNEL_SET'],
      meaning:
        'a [kernel set](initramfs.md#kernel-sets) that there is not, that is not built for this version of ya-vm, is damaged, or cannot be kept',
      helps: '`ya-vm initramfs sets`',
    },
    {
      codes: ['YAVM_E_KERNEL_SIGNATURE'],
      meaning:
        'YA_VM_KERNEL_KEY is set, and a kernel, initramfs or driver layer is not [signed](initramfs.md#signatures) by that key, or not what was signed; or a key cannot be read',
    },
    {
      codes: ['YAVM_E_INITRAMFS_BOOT'],
      meaning: 'what `initramfs diff --boot` compares does not boot',
      helps: '`ya-vm boot-test` shows its console',
    },
    { codes: ['YAVM_E_INITRAMFS_ARCHIVE'], meaning: 'an initramfs or its manifest cannot be read' },
  ],
} as const satisfies Section;
