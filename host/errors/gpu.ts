/** Errors of graphics cards on the host. */
import type { Section } from './section.ts';

export const GPU = {
  title: 'Graphics cards',
  intro:
    '`ya-vm gpu check` looks for all of these, and prints the commands that fix them. [Graphics cards](gpu.md).',
  rows: [
    {
      codes: ['YAVM_E_GPU_MISSING'],
      meaning: 'no graphics card has this address',
      helps: '`ya-vm gpu list`',
    },
    {
      codes: ['YAVM_E_GPU_IOMMU'],
      meaning: 'there is no IOMMU, or it is off',
      helps: "VT-d or AMD-Vi in the firmware's settings; `intel_iommu=on` in the kernel's words",
    },
    {
      codes: ['YAVM_E_GPU_GROUP'],
      meaning: 'the card shares its IOMMU group with a device that is not its own',
      helps: "another socket; ACS in the firmware's settings",
    },
    {
      codes: ['YAVM_E_GPU_DRIVER'],
      meaning: 'not all functions of the card are bound to vfio-pci',
      helps: '`sudo ya-vm gpu bind SLOT`',
    },
    {
      codes: ['YAVM_E_GPU_NODE'],
      meaning: "QEMU's user may not open `/dev/vfio/…`, or it is not there",
      helps: 'the udev rule of the hint',
    },
    {
      codes: ['YAVM_E_GPU_MEMLOCK'],
      meaning: 'the memory of the VM cannot be locked',
      helps: '`LimitMEMLOCK=infinity`, `/etc/security/limits.d`',
    },
    { codes: ['YAVM_E_GPU_BUSY'], meaning: 'another VM has the card', helps: '`ya-vm ps`, `ya-vm stop ID`' },
    {
      codes: ['YAVM_E_GPU_KERNEL'],
      meaning: "the VM's kernel has no driver for the card",
      helps: 'the kernel set, or the driver layer, of the hint',
    },
    {
      codes: ['YAVM_E_HUGEPAGES'],
      meaning: 'the host has not as many free huge pages as `--hugepages` or `YA_VM_HUGEPAGES` needs',
      helps: 'the command of the hint sets more aside; without the option memory is as always',
    },
    {
      codes: ['YAVM_E_GPU_BIND'],
      meaning: 'a card cannot be moved to another driver',
      helps: 'as root; `dmesg`',
    },
  ],
} as const satisfies Section;
