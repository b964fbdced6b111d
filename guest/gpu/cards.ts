/** Graphics cards on the PCI bus, as sysfs has them (Documentation/ABI/testing/sysfs-bus-pci). */
import type { Native } from '../../native/face.ts';
import { namesIn, readIfThere } from './context.ts';

/** A device of class 03: VGA (0300), and 3D without a display (0302), which data-centre cards are. */
export interface Card {
  /** `0000:01:00.0` */
  slot: string;
  vendor: number;
  device: number;
  /** Its folder in sysfs. */
  folder: string;
}

/** Base class "display controller". */
const DISPLAY = 0x03;
/** Bound on the cards of a VM: the reply has room for as many. */
const MAX_CARDS = 64;

export const NVIDIA = 0x10de;
export const AMD = 0x1002;

/** In the order of their slots. @throws NativeError */
export function findCards(native: Native, sysfs: string): Card[] {
  const devices = `${sysfs}/bus/pci/devices`;
  const cards: Card[] = [];
  for (const slot of namesIn(native, devices)) {
    const folder = `${devices}/${slot}`;
    if (hex(readIfThere(native, `${folder}/class`)) >> 16 !== DISPLAY) continue;
    const vendor = hex(readIfThere(native, `${folder}/vendor`));
    const device = hex(readIfThere(native, `${folder}/device`));
    cards.push({ slot, vendor, device, folder });
    if (cards.length === MAX_CARDS) break;
  }
  return cards;
}

/** `0x030000\n`; 0 for anything else. */
function hex(text: string | null): number {
  return text !== null && /^0x[0-9a-f]{1,8}\s*$/i.test(text) ? Number.parseInt(text, 16) : 0;
}

/** A card as people name it: `0000:01:00.0 (10de:2330)`. */
export function nameOf({ slot, vendor, device }: Card): string {
  return `${slot} (${digits(vendor)}:${digits(device)})`;
}

function digits(id: number): string {
  return id.toString(16).padStart(4, '0');
}

/** Kernel driver that has the card; null: none. Of a virtio device the card is the device behind the transport. */
export function driverOf(native: Native, card: Card): string | null {
  for (const folder of [...virtioFolders(native, card), card.folder]) {
    try {
      const link = native.readlink(`${folder}/driver`);
      return link.slice(link.lastIndexOf('/') + 1);
    } catch {
      // Nobody has it.
    }
  }
  return null;
}

/** Driver of what a module would drive: of a virtio device itself, not of its transport; null: none has taken it. */
export function takerOf(native: Native, card: Card): string | null {
  const driver = driverOf(native, card);
  return virtioFolders(native, card).length > 0 && driver === 'virtio-pci' ? null : driver;
}

/** Of a card on virtio's bus: its folders there. */
export function virtioFolders(native: Native, card: Card): string[] {
  const names = namesIn(native, card.folder).filter((name) => /^virtio\d+$/.test(name));
  return names.map((name) => `${card.folder}/${name}`);
}
