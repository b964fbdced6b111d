/** Devices that the kernel has found: what each says of itself, for the aliases of modules. */
import type { Native } from '../../native/face.ts';
import { O_CLOEXEC, O_DIRECTORY, O_RDONLY } from '../lib/constants.ts';

const SYSFS = '/sys';
/** Longest MODALIAS text read, bytes: sysfs has a page for it; a device of ACPI has several lines. */
const MAX_ALIASES = 4096;

/** Buses of the kernel for which `wanted` has modules. */
export function listBuses(native: Native, wanted: Set<string>, sysfs = SYSFS): string[] {
  return listNames(native, `${sysfs}/bus`).filter((bus) => wanted.has(bus));
}

/** MODALIAS of every device on a bus, each once, in the order of their names. */
export function busAliases(native: Native, bus: string, sysfs = SYSFS): string[] {
  const folder = `${sysfs}/bus/${bus}/devices`;
  const found = new Set<string>();
  for (const device of listNames(native, folder).sort()) {
    for (const alias of readAliases(native, `${folder}/${device}/modalias`)) found.add(alias);
  }
  return [...found];
}

/** Names in a folder; none when it is not there: buses and devices come and go. */
function listNames(native: Native, folder: string): string[] {
  let fd: number;
  try {
    fd = native.open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  } catch {
    return [];
  }
  try {
    return native.readDirectory(fd).map(({ name }) => name);
  } finally {
    native.close(fd);
  }
}

/** None when the device has no such file, or has gone away meanwhile. */
function readAliases(native: Native, path: string): string[] {
  try {
    return native.readText(-1, path, MAX_ALIASES).split('\n').filter(Boolean);
  } catch {
    return [];
  }
}
