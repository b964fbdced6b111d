/** The graphics cards of this host, from sysfs: each with its functions, and whom it shares an IOMMU group with. */
import { join } from 'node:path';
import { type Bar, parseBars } from './bars.ts';
import { deviceOf } from './slot.ts';
import { entries, type HostRoots, linkName, readNumber, readText } from './sysfs.ts';

export type Vendor = 'nvidia' | 'amd' | 'intel' | 'other';

/** `display`: with outputs (class VGA); `compute`: none, as data-centre cards; `integrated`: a part of the processor. */
export type CardKind = 'display' | 'compute' | 'integrated';

/** A function of a PCI device. */
export interface PciFunction {
  slot: string;
  vendor: number;
  device: number;
  /** `0x030200`: class, subclass, interface. */
  class: number;
  /** Name of the driver that has it; null: none. */
  driver: string | null;
}

export interface CardFunction extends PciFunction {
  bars: Bar[];
}

export interface Card {
  /** Of the function that makes it a graphics card. */
  slot: string;
  vendor: Vendor;
  kind: CardKind;
  /** `10de:20b5`. */
  ids: string;
  /** All of the card, by number: sound and USB are functions beside the first. */
  functions: CardFunction[];
  /** Null: there is no IOMMU, or it is off. */
  group: number | null;
  /** Of the group, without the card's own functions. */
  companions: PciFunction[];
  /** The firmware and the console draw on it. */
  bootDisplay: boolean;
  /** A share of another card (SR-IOV). */
  virtual: boolean;
  /** Instances that the host's driver has split it into (MIG). */
  migInstances: number;
}

const VENDORS: Readonly<Record<number, Vendor>> = { 4318: 'nvidia', 4098: 'amd', 32902: 'intel' };

const DISPLAY = 0x03;
const VGA = 0x0300;
const BRIDGE = 0x06;

/** VGA (0300), 3D (0302: what data-centre cards are) and other display controllers (0380). */
export function isGraphics({ class: code }: PciFunction): boolean {
  return code >> 16 === DISPLAY;
}

/** Stays with the host: it carries no memory of the guest's. */
export function isBridge({ class: code }: PciFunction): boolean {
  return code >> 16 === BRIDGE;
}

/** Emulated cards of this host, when it is a VM itself, are none that could be passed on: their vendors are `other`. */
export function findCards(roots: HostRoots): Card[] {
  const folder = join(roots.sys, 'bus/pci/devices');
  const all = entries(folder).flatMap((slot) => readFunction(folder, slot) ?? []);
  const devices = new Map<string, PciFunction[]>();
  for (const each of all) {
    const device = deviceOf(each.slot);
    devices.set(device, [...(devices.get(device) ?? []), each]);
  }
  const found = [...devices.values()].flatMap((functions) => {
    const main = functions.find(isGraphics);
    return main ? [{ main, functions }] : [];
  });
  return found.map(({ main, functions }) => cardOf(roots, folder, main, functions));
}

function cardOf(roots: HostRoots, folder: string, main: PciFunction, functions: PciFunction[]): Card {
  const at = join(folder, main.slot);
  const name = linkName(join(at, 'iommu_group'));
  const group = name !== null && /^\d+$/.test(name) ? Number(name) : null;
  const vendor = VENDORS[main.vendor] ?? 'other';
  const virtual = linkName(join(at, 'physfn')) !== null;
  // A virtual function shares its bus and number with other cards: it is alone.
  const own = virtual ? [main] : functions;
  const members = group === null ? [] : entries(roots.sys, 'kernel/iommu_groups', String(group), 'devices');
  return {
    slot: main.slot,
    vendor,
    kind: kindOf(main, vendor),
    ids: `${hex(main.vendor)}:${hex(main.device)}`,
    functions: own.map((each) => ({
      ...each,
      bars: parseBars(readText(join(folder, each.slot, 'resource')) ?? ''),
    })),
    group,
    companions: members
      .filter((slot) => !own.some((each) => each.slot === slot))
      .flatMap((slot) => readFunction(folder, slot) ?? []),
    bootDisplay: readNumber(join(at, 'boot_vga')) === 1,
    virtual,
    migInstances: vendor === 'nvidia' ? migInstances(roots, main.slot) : 0,
  };
}

function kindOf({ class: code, slot }: PciFunction, vendor: Vendor): CardKind {
  if (vendor === 'intel' && slot.endsWith(':00:02.0')) return 'integrated';
  return code >> 8 === VGA ? 'display' : 'compute';
}

function readFunction(folder: string, slot: string): PciFunction | null {
  const number = (name: string) => readNumber(join(folder, slot, name));
  const [vendor, device, code] = [number('vendor'), number('device'), number('class')];
  if (vendor === null || device === null || code === null) return null;
  return { slot, vendor, device, class: code, driver: linkName(join(folder, slot, 'driver')) };
}

/** The driver numbers its cards itself; each instance has a folder `giN`. */
function migInstances({ proc }: HostRoots, slot: string): number {
  const text = readText(join(proc, 'driver/nvidia/gpus', slot, 'information')) ?? '';
  const [, minor] = /^Device Minor:\s*(\d+)$/m.exec(text) ?? [];
  if (minor === undefined) return 0;
  const mig = entries(proc, 'driver/nvidia/capabilities', `gpu${minor}`, 'mig');
  return mig.filter((name) => /^gi\d+$/.test(name)).length;
}

function hex(id: number): string {
  return id.toString(16).padStart(4, '0');
}
