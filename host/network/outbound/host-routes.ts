/** Whether this host has a way out, by its routes: passt gives the guest no family that has none. */
import { readFileSync } from 'node:fs';

export interface WaysOut {
  ipv4: boolean;
  ipv6: boolean;
}

/** Flags of a route (linux/route.h, linux/ipv6_route.h). */
const UP = 0x1;
const REJECT = 0x200;
const LOOPBACK = 'lo';

/** By the kernel's tables of this process's network namespace. A kernel without a family has no table: no way out. */
export function waysOut(read: (path: string) => string = (path) => readFileSync(path, 'utf8')): WaysOut {
  const table = (path: string) => {
    try {
      return read(path);
    } catch {
      return '';
    }
  };
  return {
    ipv4: hasDefault4(table('/proc/net/route')),
    ipv6: hasDefault6(table('/proc/net/ipv6_route')),
  };
}

/** Columns: interface, destination, gateway, flags, three numbers, mask. */
export function hasDefault4(table: string): boolean {
  return rows(table).some(
    ([name, destination, , flags, , , , mask]) =>
      name !== LOOPBACK && destination === '00000000' && mask === '00000000' && usable(flags),
  );
}

/** Columns: destination, its prefix, source, its prefix, next hop, three numbers, flags, interface. */
export function hasDefault6(table: string): boolean {
  return rows(table).some(
    ([destination, prefix, , , , , , , flags, name]) =>
      name !== LOOPBACK && destination === '0'.repeat(32) && prefix === '00' && usable(flags),
  );
}

function rows(table: string): string[][] {
  return table.split('\n').map((line) => line.trim().split(/\s+/));
}

function usable(flags: string | undefined): boolean {
  const bits = Number.parseInt(flags ?? '', 16);
  return (bits & UP) !== 0 && (bits & REJECT) === 0;
}
