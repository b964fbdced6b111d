/** A QEMU whose guest speaks no protocol: raw bytes on the control port. For the floor and the reference guest. */
import { Socket } from 'node:net';
import { withDeadline } from '../../host/lib/deadline.ts';
import { TCG_CPU } from '../../host/runtime/accelerator.ts';
import { readTscKhz } from '../../host/runtime/host-clock.ts';
import { launchQemu, type Qemu } from '../../host/runtime/launch.ts';
import { fillSlots } from '../../host/runtime/template/placeholders.ts';
import { loadNative } from '../../native/load.ts';
import { bootAssets } from '../lib/vm.ts';

/** What both sides of a comparison have in common. */
export interface Shape {
  accel: 'tcg' | 'kvm';
  cpus: number;
  memoryMiB: number;
  /** QEMU's -cpu; default what works without a look at the machine. */
  cpuModel?: string;
}

/** What a machine goes on from: both descriptors are taken over. */
export interface Saved {
  ram: number;
  state: number;
}

/** Starts QEMU with the product's own arguments (no disks), and `initramfs` as what it boots, or booted when it was `saved`. */
export function launchGuest(
  { accel, cpus, memoryMiB, cpuModel }: Shape,
  initramfs: string,
  saved?: Saved,
): Qemu {
  const assets = { ...bootAssets(), initramfs };
  return launchQemu(
    {
      name: 'ya-vm-bench',
      accel,
      cpuModel: cpuModel ?? (accel === 'tcg' ? TCG_CPU : 'max'),
      cpus,
      memoryMiB,
      assets,
      tscKhz: accel === 'tcg' ? readTscKhz() : undefined,
      ...(saved ? fillSlots([], []) : { disks: [], nics: [] }),
      template: saved && { ram: saved.ram, state: saved.state, mode: 'use' },
    },
    loadNative(),
  );
}

/** For a guest to say its first byte, milliseconds. */
const START_DEADLINE = 60_000;
/** Bytes read from a port at a time; as the product's own ports. */
const BUFFER = 256 * 1024;

/** Its control port as counted bytes: what arrives is not kept. */
export class RawGuest {
  readonly #qemu: Qemu;
  readonly #control: Socket;
  readonly #others: Socket[];
  #received = 0;
  #waiting: { total: number; resolve: () => void } | null = null;
  #firstAt = 0;

  constructor(qemu: Qemu) {
    this.#qemu = qemu;
    const drop = { buffer: Buffer.alloc(4096), callback: () => true };
    this.#others = [qemu.ports.data(drop), qemu.ports.log(drop), qemu.qmp(drop)];
    this.#control = qemu.ports.control({
      buffer: Buffer.alloc(BUFFER),
      callback: (bytes) => {
        this.#take(bytes);
        return true;
      },
    });
    for (const socket of [...this.#others, this.#control]) socket.on('error', () => {});
    // A guest that prints must not stand still.
    const console_ = new Socket({ fd: qemu.consolePipe, readable: true, writable: false });
    this.#others.push(console_.on('error', () => {}).resume());
  }

  /** Waits for the byte that says that the guest is up. */
  async started(): Promise<void> {
    await this.receive(1, START_DEADLINE);
  }

  /** Waits for `bytes` more bytes. @returns milliseconds from the first to the last of them. */
  async receive(bytes: number, deadline: number): Promise<number> {
    this.#firstAt = 0;
    const total = this.#received + bytes;
    await withDeadline(
      new Promise<void>((resolve) => {
        this.#waiting = { total, resolve };
      }),
      deadline,
      'the bench guest',
    );
    return performance.now() - this.#firstAt;
  }

  /** Sends bytes; resolves when the socket took them. */
  send(bytes: Uint8Array | string): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#control.write(bytes, (error) => (error ? reject(error) : resolve()));
    });
  }

  async kill(): Promise<void> {
    this.#qemu.kill();
    await this.#qemu.exited;
    for (const socket of [...this.#others, this.#control]) socket.destroy();
  }

  #take(bytes: number): void {
    if (this.#firstAt === 0) this.#firstAt = performance.now();
    this.#received += bytes;
    if (!this.#waiting || this.#received < this.#waiting.total) return;
    this.#waiting.resolve();
    this.#waiting = null;
  }
}
