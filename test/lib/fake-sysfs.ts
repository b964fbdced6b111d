/**
 * Trees that look like a host's /sys, /dev and /proc as far as graphics cards go, from data. Formats are those of the kernel's
 * Documentation/ABI/testing/sysfs-bus-pci; BAR sizes are the cards' own.
 */
import { chmodSync, mkdirSync, mkdtempSync, readlinkSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import type { BindEffects } from '../../host/gpu/bind.ts';
import type { HostRoots } from '../../host/gpu/sysfs.ts';

export interface FakeFunction {
  slot: string;
  vendor: number;
  device: number;
  class: number;
  driver?: string;
  group?: number;
  bootVga?: boolean;
  /** Start, end and flags of a BAR, as `resource` has them. */
  resource?: string[];
  /** Of a virtual function: its physical one. */
  physfn?: string;
  /** Which of the host's drivers takes it when nobody else has it; default `driver`. */
  native?: string;
}

export interface FakeHost {
  functions: FakeFunction[];
  /** vfio-pci is loaded; default true. */
  vfio?: boolean;
  /** Names in /dev/vfio, with their modes. */
  nodes?: Record<string, number>;
  /** MIG instances by the slot of a card that nvidia has. */
  mig?: Record<string, number>;
  /** Hard limit of locked memory, as /proc/self/limits writes it; default unlimited. */
  memlock?: string;
}

const NONE = '0x0000000000000000 0x0000000000000000 0x0000000000000000';
const IO = '0x000000000000e000 0x000000000000e07f 0x0000000000040101';

/** An A100 with 80 GB, at one of a server's root ports: BARs of 16 MiB, 128 GiB and 32 MiB. */
export const DATA_CENTRE: FakeFunction[] = [
  { slot: '0000:16:01.0', vendor: 0x8086, device: 0x347a, class: 0x060400, driver: 'pcieport', group: 11 },
  {
    slot: '0000:17:00.0',
    vendor: 0x10de,
    device: 0x20b5,
    class: 0x030200,
    driver: 'vfio-pci',
    native: 'nvidia',
    group: 12,
    resource: [
      '0x00000000b4000000 0x00000000b4ffffff 0x0000000000040200',
      '0x0000206000000000 0x0000207fffffffff 0x000000000014220c',
      NONE,
      '0x0000208000000000 0x0000208001ffffff 0x000000000014220c',
      NONE,
      NONE,
      // Virtual functions' BARs, which are no concern of the card's guest.
      NONE,
      '0x00000000b5000000 0x00000000b53fffff 0x0000000000040200',
    ],
  },
];

/** An RTX 2080 with sound, USB and its controller beside it, on the console. Its group has the bridge above it. */
export const CONSUMER: FakeFunction[] = [
  { slot: '0000:00:01.0', vendor: 0x8086, device: 0x1901, class: 0x060400, driver: 'pcieport', group: 1 },
  {
    slot: '0000:01:00.0',
    vendor: 0x10de,
    device: 0x1e87,
    class: 0x030000,
    driver: 'nvidia',
    group: 1,
    bootVga: true,
    resource: [
      '0x00000000a3000000 0x00000000a3ffffff 0x0000000000040200',
      '0x0000000090000000 0x000000009fffffff 0x000000000014220c',
      NONE,
      '0x00000000a0000000 0x00000000a1ffffff 0x000000000014220c',
      NONE,
      IO,
    ],
  },
  {
    slot: '0000:01:00.1',
    vendor: 0x10de,
    device: 0x10f8,
    class: 0x040300,
    driver: 'snd_hda_intel',
    group: 1,
    resource: ['0x00000000a4080000 0x00000000a4083fff 0x0000000000040200'],
  },
  {
    slot: '0000:01:00.2',
    vendor: 0x10de,
    device: 0x1ad8,
    class: 0x0c0330,
    driver: 'xhci_hcd',
    group: 1,
    resource: ['0x00000000a2000000 0x00000000a203ffff 0x000000000014220c'],
  },
  { slot: '0000:01:00.3', vendor: 0x10de, device: 0x1ad9, class: 0x0c8000, group: 1 },
];

/** A card whose group has a network card of the host's. */
export const SHARED_GROUP: FakeFunction[] = [
  { slot: '0000:02:00.0', vendor: 0x10de, device: 0x1b80, class: 0x030000, driver: 'vfio-pci', group: 2 },
  { slot: '0000:02:00.1', vendor: 0x10de, device: 0x10f0, class: 0x040300, driver: 'vfio-pci', group: 2 },
  { slot: '0000:03:00.0', vendor: 0x8086, device: 0x1533, class: 0x020000, driver: 'igb', group: 2 },
];

/** An RX 6800. */
export const AMD: FakeFunction[] = [
  {
    slot: '0000:0b:00.0',
    vendor: 0x1002,
    device: 0x73bf,
    class: 0x030000,
    driver: 'vfio-pci',
    native: 'amdgpu',
    group: 30,
    resource: [
      '0x0000007800000000 0x0000007bffffffff 0x000000000014220c',
      NONE,
      '0x0000007c00000000 0x0000007c0fffffff 0x000000000014220c',
      NONE,
      IO,
      '0x00000000fcb00000 0x00000000fcbfffff 0x0000000000040200',
    ],
  },
  {
    slot: '0000:0b:00.1',
    vendor: 0x1002,
    device: 0xab28,
    class: 0x040300,
    driver: 'vfio-pci',
    native: 'snd_hda_intel',
    group: 30,
  },
];

/** The processor's own, and an Arc A770 that has no IOMMU group: the IOMMU is off. */
export const INTEL: FakeFunction[] = [
  { slot: '0000:00:02.0', vendor: 0x8086, device: 0x4680, class: 0x030000, driver: 'i915', bootVga: true },
  { slot: '0000:03:00.0', vendor: 0x8086, device: 0x56a0, class: 0x030000, driver: 'i915' },
];

/** A host without a graphics card. */
export const NO_CARD: FakeFunction[] = [
  { slot: '0000:00:00.0', vendor: 0x8086, device: 0x3ec2, class: 0x060000 },
  { slot: '0000:00:1f.6', vendor: 0x8086, device: 0x15bc, class: 0x020000, driver: 'e1000e', group: 9 },
];

export class FakeSysfs {
  readonly roots: HostRoots;
  readonly #top = mkdtempSync(join(tmpdir(), 'yavm-sysfs-'));
  readonly #functions: readonly FakeFunction[];
  /** What was done to it, in order, with paths from the tree's top. */
  readonly done: string[] = [];

  constructor({ functions, vfio = true, nodes = {}, mig = {}, memlock = 'unlimited' }: FakeHost) {
    this.roots = { sys: join(this.#top, 'sys'), dev: join(this.#top, 'dev'), proc: join(this.#top, 'proc') };
    this.#functions = functions;
    for (const folder of ['sys/bus/pci/devices', 'sys/bus/pci/drivers', 'dev/vfio', 'proc/self']) {
      mkdirSync(join(this.#top, folder), { recursive: true });
    }
    if (vfio) mkdirSync(this.#driver('vfio-pci'));
    for (const each of functions) this.#addFunction(each);
    for (const [name, mode] of Object.entries(nodes)) this.#put(join(this.roots.dev, 'vfio', name), '', mode);
    for (const [index, [slot, instances]] of Object.entries(mig).entries())
      this.#split(index, slot, instances);
    const limit = `Max locked memory         8388608              ${memlock.padEnd(20)} bytes`;
    const head = 'Limit                     Soft Limit           Hard Limit           Units';
    this.#put(join(this.roots.proc, 'self/limits'), `${head}\n${limit}\n`);
  }

  remove(): void {
    rmSync(this.#top, { recursive: true, force: true });
  }

  /** The kernel's answers to what is written; chmod and modprobe are noted and done. */
  get effects(): BindEffects {
    return {
      write: (path, text) => {
        this.done.push(`${path.slice(this.roots.sys.length + 1)} = ${JSON.stringify(text)}`);
        if (path.endsWith('driver_override')) this.#put(path, text);
        else if (path.endsWith('driver/unbind')) rmSync(join(this.#device(text), 'driver'));
        else if (path.endsWith('drivers_probe')) this.#probe(text);
        else throw new Error(`${path}: nobody writes there`);
      },
      giveNode: (path, gid) => void this.done.push(`${path.slice(this.roots.dev.length + 1)} to ${gid}`),
      loadDriver: (name) => {
        this.done.push(`modprobe ${name}`);
        mkdirSync(this.#driver(name), { recursive: true });
      },
    };
  }

  #probe(slot: string): void {
    const described = this.#functions.find((each) => each.slot === slot);
    const override = this.#overrides.get(slot) ?? '';
    const driver = override === '' ? (described?.native ?? described?.driver) : override;
    if (driver !== undefined) this.#link(slot, driver);
  }

  readonly #overrides = new Map<string, string>();

  #addFunction(each: FakeFunction): void {
    const folder = this.#device(each.slot);
    mkdirSync(folder);
    const files: [string, string | undefined][] = [
      ['vendor', hex(each.vendor, 4)],
      ['device', hex(each.device, 4)],
      ['class', hex(each.class, 6)],
      ['driver_override', '(null)'],
      ['resource', [...(each.resource ?? []), ...Array<string>(13).fill(NONE)].slice(0, 13).join('\n')],
      ['boot_vga', each.bootVga === undefined ? undefined : String(Number(each.bootVga))],
    ];
    for (const [name, text] of files) if (text !== undefined) this.#put(join(folder, name), `${text}\n`);
    if (each.driver !== undefined) this.#link(each.slot, each.driver);
    if (each.physfn !== undefined) symlinkSync(`../${each.physfn}`, join(folder, 'physfn'));
    if (each.group === undefined) return;
    const members = join(this.roots.sys, 'kernel/iommu_groups', String(each.group), 'devices');
    mkdirSync(members, { recursive: true });
    symlinkSync(folder, join(members, each.slot));
    symlinkSync(dirname(members), join(folder, 'iommu_group'));
  }

  #split(minor: number, slot: string, instances: number): void {
    const information = join(this.roots.proc, 'driver/nvidia/gpus', slot, 'information');
    this.#put(information, `Model: \t\t NVIDIA A100-SXM4-80GB\nDevice Minor: \t ${minor}\n`);
    const mig = join(this.roots.proc, `driver/nvidia/capabilities/gpu${minor}/mig`);
    for (let index = 0; index < instances; index++) {
      this.#put(join(mig, `gi${index + 1}`, 'access'), 'DeviceFileMinor: 12\n');
    }
  }

  #link(slot: string, driver: string): void {
    mkdirSync(this.#driver(driver), { recursive: true });
    rmSync(join(this.#device(slot), 'driver'), { force: true });
    symlinkSync(this.#driver(driver), join(this.#device(slot), 'driver'));
  }

  /** Which driver has a function. */
  driverOf(slot: string): string | null {
    try {
      return basename(readlinkSync(join(this.#device(slot), 'driver')));
    } catch {
      return null;
    }
  }

  #put(path: string, text: string, mode = 0o644): void {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
    chmodSync(path, mode);
    if (path.endsWith('driver_override'))
      this.#overrides.set(basename(dirname(path)), text.replace('(null)', '').trim());
  }

  #device(slot: string): string {
    return join(this.roots.sys, 'bus/pci/devices', slot);
  }

  #driver(name: string): string {
    return join(this.roots.sys, 'bus/pci/drivers', name);
  }
}

function hex(value: number, digits: number): string {
  return `0x${value.toString(16).padStart(digits, '0')}`;
}
