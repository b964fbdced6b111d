/**
 * Boots an initramfs of somebody else: there is no agent in it that could be asked, so its serial console is all that is
 * known of it. It passes when all that is expected was printed, and fails when it ends, or time does, before.
 */
import { Socket } from 'node:net';
import type { ExitStatus, Native } from '../../native/face.ts';
import { deferred } from '../lib/deferred.ts';
import { TextTail } from '../lib/text-tail.ts';
import type { Accelerator } from '../runtime/accelerator.ts';
import { readTscKhz } from '../runtime/host-clock.ts';
import { launchQemu, type Qemu } from '../runtime/launch.ts';
import type { BootAssets } from '../runtime/types.ts';
import { ExpectedTexts } from './expected.ts';
import { KEPT } from './result.ts';

export interface RawBoot extends Accelerator {
  /** There is no manifest. */
  assets: BootAssets;
  memoryMiB: number;
  cpus: number;
  /** More words of the kernel's command line. */
  kernelWords: readonly string[];
  expect: readonly string[];
  /** Milliseconds. */
  timeout: number;
  signal: AbortSignal;
}

export interface RawEnd {
  /** Why it did not pass. */
  failures: string[];
  console: string;
  /** Milliseconds from QEMU's start to the last expected text, or to the end. */
  milliseconds: number;
}

/** What QEMU may take to hand over its last bytes, milliseconds. */
const LAST_BYTES = 1000;
const READ_BUFFER = 16 * 1024;
/** Kernel and initramfs speak: that is what is looked at. */
export const LOUD = ['loglevel=7'];

/** @throws {YavmError} what keeps QEMU from starting; the signal's reason */
export async function bootRaw(boot: RawBoot, native: Native): Promise<RawEnd> {
  const began = performance.now();
  const qemu = launchQemu(
    {
      name: 'ya-vm-boot-test',
      ...boot,
      tscKhz: boot.accel === 'tcg' ? readTscKhz() : undefined,
      kernelWords: [...LOUD, ...boot.kernelWords],
      disks: [],
      nics: [],
    },
    native,
  );
  const expected = new ExpectedTexts(boot.expect);
  const tail = new TextTail(KEPT);
  const seen = deferred<'seen'>();
  const silent = idle(qemu);
  const console_ = readConsole(qemu.consolePipe, (bytes) => {
    tail.push(bytes);
    expected.push(bytes);
    if (expected.missing.length === 0) seen.resolve('seen');
  });
  const stop = deferred<'late' | 'aborted'>();
  const timer = setTimeout(() => stop.resolve('late'), boot.timeout);
  const onAbort = () => stop.resolve('aborted');
  boot.signal.addEventListener('abort', onAbort, { once: true });
  if (boot.signal.aborted) onAbort();
  try {
    const end = await Promise.race([seen.promise, stop.promise, qemu.exited]);
    const milliseconds = Math.round(performance.now() - began);
    qemu.kill();
    await qemu.exited;
    await Promise.race([console_.closed, new Promise((resolve) => setTimeout(resolve, LAST_BYTES))]);
    boot.signal.throwIfAborted();
    const failures = expected.missing.map((text) => `the console did not say ${JSON.stringify(text)}`);
    if (failures.length > 0) failures.unshift(describe(end, boot.timeout, tail.text, qemu));
    return { failures, console: tail.text, milliseconds };
  } finally {
    clearTimeout(timer);
    boot.signal.removeEventListener('abort', onAbort);
    qemu.kill();
    for (const socket of [...silent, console_.socket]) socket.destroy();
  }
}

function describe(
  end: 'seen' | 'late' | 'aborted' | ExitStatus,
  timeout: number,
  text: string,
  qemu: Qemu,
): string {
  if (end === 'late') return `not all that is expected came within ${timeout / 1000} s`;
  const panic = text.match(/Kernel panic - not syncing: ([^\r\n]{1,200})/);
  if (panic) return `the kernel panicked: ${panic[1]}`;
  const said = qemu.messages.lines(2).join('; ');
  return `the guest ended${said === '' ? '' : `; QEMU said: ${said}`}`;
}

/** Ports that an agent would speak on. Read, so that a guest that writes to one does not stand still. */
function idle(qemu: Qemu): Socket[] {
  const { control, data, log } = qemu.ports;
  return [control, data, log, qemu.qmp].map((connect) =>
    connect({ buffer: Buffer.alloc(4096), callback: () => true }).on('error', () => {}),
  );
}

function readConsole(pipe: number, take: (bytes: Buffer) => void): { socket: Socket; closed: Promise<void> } {
  const buffer = Buffer.allocUnsafeSlow(READ_BUFFER);
  const callback = (count: number) => {
    take(buffer.subarray(0, count));
    return true;
  };
  const socket = new Socket({ fd: pipe, readable: true, writable: false, onread: { buffer, callback } });
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  socket.on('error', () => {});
  socket.resume();
  return { socket, closed };
}
