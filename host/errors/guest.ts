/** Errors of requests to the guest. `YAVM_E_GUEST_…` are those of guest/protocol/wire-error.ts. */
import type { Section } from './section.ts';

export const GUEST = {
  title: 'Requests to the guest',
  intro:
    'These come from programs that use the runtime; from the command line only `shell` and the start of a VM make such requests.',
  rows: [
    {
      codes: ['YAVM_E_GUEST_BAD_REQUEST', 'YAVM_E_GUEST_UNKNOWN_REQUEST'],
      meaning: "the guest, or the VM's supervisor, does not take this request",
    },
    {
      codes: ['YAVM_E_GUEST_NOT_CONFIGURED', 'YAVM_E_GUEST_ALREADY_CONFIGURED'],
      meaning: 'a request came before the VM was configured, or configured it twice',
    },
    {
      codes: ['YAVM_E_GUEST_MOUNT_FAILED', 'YAVM_E_GUEST_DISK_MISSING', 'YAVM_E_GUEST_MODULE_FAILED'],
      meaning: "a disk, file system or driver cannot be used; the message has the kernel's reason",
    },
    {
      codes: ['YAVM_E_GUEST_GPU_FAILED'],
      meaning:
        'a graphics card does not work in the VM: no driver, a [driver layer](driver-layer.md) for another kernel, or versions that differ; the message names which',
    },
    {
      codes: ['YAVM_E_GUEST_HOOK_FAILED'],
      meaning:
        "the initramfs' [start-up hook](initramfs.md#hooks) threw, died or took too long; the message has its file and line",
    },
    {
      codes: ['YAVM_E_GUEST_HOOK_VERSION'],
      meaning:
        "the initramfs' [start-up hook](initramfs.md#hooks) was compiled by another version of ya-vm than its `/init`; it is not run",
      helps: '`ya-vm initramfs build --hook`',
    },
    { codes: ['YAVM_E_GUEST_NETWORK_FAILED'], meaning: 'a link, address or route cannot be set' },
    {
      codes: ['YAVM_E_GUEST_FILE_FAILED', 'YAVM_E_GUEST_BAD_ARCHIVE'],
      meaning:
        "a file cannot be read or written (the message has the kernel's reason: ENOSPC is a full disk of the VM, EISDIR a path that names a directory), a tar makes no sense",
    },
    {
      codes: ['YAVM_E_GUEST_SHUTTING_DOWN'],
      meaning: 'the guest is ending',
      helps: 'why it ends is told by the `ya-vm` that ran it',
    },
    {
      codes: ['YAVM_E_GUEST_INTERNAL'],
      meaning: 'the agent failed in a way that it did not foresee',
      helps: 'report it',
    },
    { codes: ['YAVM_E_GUEST_BUSY'], meaning: 'too many requests wait for the guest' },
    { codes: ['YAVM_E_REQUEST_TOO_LONG'], meaning: 'arguments and environment exceed 1 MiB' },
    { codes: ['YAVM_E_STREAM_BUSY'], meaning: "a command's output was asked for twice" },
    { codes: ['YAVM_E_OUTPUT_TOO_LONG'], meaning: 'more output than the caller wanted to hold' },
    { codes: ['YAVM_E_TRANSFER_INCOMPLETE'], meaning: 'not all bytes of a file arrived' },
  ],
} as const satisfies Section;
