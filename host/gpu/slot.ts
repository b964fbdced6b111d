/** Addresses of PCI functions, as sysfs writes them: `0000:01:00.0`. Pure. */
import { YavmError } from '../lib/errors.ts';

const SLOT = /^(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}):([01][0-9a-f])\.([0-7])$/;

/** `01:00.0` stands for `0000:01:00.0`, as lspci prints it. @throws {YavmError} YAVM_E_USAGE */
export function parseSlot(text: string): string {
  const [, domain = '0000', bus, device, number] = SLOT.exec(text.trim().toLowerCase()) ?? [];
  if (bus !== undefined) return `${domain}:${bus}:${device}.${number}`;
  throw new YavmError('YAVM_E_USAGE', `'${text.slice(0, 80)}' is no PCI address`, {
    hint: "As 0000:01:00.0; 'ya-vm gpu list' shows them.",
  });
}

/** What the functions of one card have in common: `0000:01:00`. */
export function deviceOf(slot: string): string {
  return slot.slice(0, slot.lastIndexOf('.'));
}

/** 0 to 7. */
export function functionOf(slot: string): number {
  return Number(slot.slice(slot.lastIndexOf('.') + 1));
}
