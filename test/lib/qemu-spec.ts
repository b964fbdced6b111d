/** The smallest specification that QEMU's arguments are built from. */
import type { QemuSpec } from '../../host/runtime/qemu-arguments.ts';

export const QEMU_SPEC: QemuSpec = {
  name: 'vm',
  accel: 'tcg',
  cpuModel: 'max',
  cpus: 2,
  memoryMiB: 512,
  kernel: 3,
  initramfs: 4,
  kernelWords: 'quiet',
  disks: [],
  nics: [],
  shares: [],
  control: 5,
  data: 6,
  log: 7,
  qmp: 8,
  consoleLog: 9,
};
