/** Whether an error is the image's or this host's. */
import { describeError, findYavmError } from '../lib/errors.ts';
import type { BootTestResult } from './result.ts';

/** Without these nothing can be tried: a programme or a file of ya-vm's own is missing, or the host has no room. */
const OF_THE_HOST = [
  ...['YAVM_E_QEMU_MISSING', 'YAVM_E_QEMU_START', 'YAVM_E_MKE2FS_MISSING', 'YAVM_E_KVM', 'YAVM_E_ASSETS'],
  ...['YAVM_E_RUN_FOLDER', 'YAVM_E_ROOT_DISK', 'YAVM_E_DISK_FULL', 'YAVM_E_IMAGE_CACHE', 'YAVM_E_VM_SPEC'],
];

export interface Judgement {
  outcome: BootTestResult['outcome'];
  failures: string[];
}

/** Of what kept a test from its end. What nobody foresaw is ya-vm's fault. */
export function judgeError(error: unknown): Judgement {
  const ours = findYavmError(error);
  const outcome = ours && !OF_THE_HOST.includes(ours.code) ? 'failed' : 'error';
  return { outcome, failures: [describeError(error)] };
}
