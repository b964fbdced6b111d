/** Errors of the host: programs and folders that VMs need. */
import type { Section } from './section.ts';

export const THIS_HOST = {
  title: 'This host',
  rows: [
    { codes: ['YAVM_E_QEMU_MISSING'], meaning: 'no QEMU', helps: '`sudo apt-get install qemu-system-x86`' },
    { codes: ['YAVM_E_MKE2FS_MISSING'], meaning: 'no mke2fs', helps: '`sudo apt-get install e2fsprogs`' },
    {
      codes: ['YAVM_E_KVM'],
      meaning: '`--accel kvm`, and KVM does not work here',
      helps: '`ya-vm doctor`; or without `--accel`',
    },
    {
      codes: ['YAVM_E_ASSETS'],
      meaning: 'kernel, initramfs or their manifest are not there or cannot be read',
      helps: '`make build`, or `ya-vm initramfs build`',
    },
    {
      codes: ['YAVM_E_RUN_FOLDER'],
      meaning: 'the folder for running VMs cannot be made or is not private',
      helps: 'the message names it; `chmod 700`, or another `XDG_RUNTIME_DIR`',
    },
    {
      codes: ['YAVM_E_ROOT_DISK'],
      meaning: 'a disk of the VM cannot be made or opened, or its reserve cannot be taken',
      helps: 'room and permissions of the folder; `YAVM_DISK_DIR`',
    },
    { codes: ['YAVM_E_MKE2FS'], meaning: 'mke2fs failed', helps: 'its message is quoted; often a full disk' },
    {
      codes: ['YAVM_E_QEMU_START'],
      meaning: 'QEMU cannot be started at all',
      helps: 'its file; limits on processes (`ulimit -u`)',
    },
    {
      codes: ['YAVM_E_VM_SPEC'],
      meaning: 'the VM asked for cannot be built',
      helps: 'fewer images or networks; the message names the bound',
    },
  ],
} as const satisfies Section;
