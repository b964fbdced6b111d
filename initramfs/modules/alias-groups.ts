/** Modules by the devices that they drive: `--module-all-of`. Pure. */
import { ModuleError } from '../errors.ts';
import type { ModuleIndex } from './index-files.ts';

/** Names for beginnings of modules.alias. PCI patterns begin with the vendor's number, as eight digits. */
const GROUPS: Readonly<Record<string, readonly string[]>> = {
  // A virtio device is a PCI device with a bus of its own behind it: whoever wants one wants both drivers.
  'pci:virtio': ['pci:v00001AF4', 'virtio:'],
  'pci:amd': ['pci:v00001002', 'pci:v00001022'],
  'pci:intel': ['pci:v00008086'],
  'pci:nvidia': ['pci:v000010DE'],
};

/**
 * The modules that have an alias with the given beginning, in the index' order, each once.
 * @param group One of the named groups (`pci:virtio`), a bus (`usb`), or the beginning of an alias (`pci:v00001AF4`).
 * @throws {ModuleError} no module has one.
 */
export function modulesOfGroup(index: ModuleIndex, group: string): string[] {
  const beginnings = GROUPS[group] ?? [group.includes(':') ? group : `${group}:`];
  const named = index.aliases
    .filter(([pattern]) => beginnings.some((beginning) => pattern.startsWith(beginning)))
    .map(([, name]) => name);
  // An alias of what is built in is in modules.builtin.modinfo, not here; one of a module that has no file is an error.
  const found = [...new Set(named)];
  if (group !== '' && found.length > 0) return found;
  throw new ModuleError(
    `--module-all-of ${group}: no module of this kernel has an alias ${beginnings.join(' or ')}…`,
    {
      hint: `Named groups: ${Object.keys(GROUPS).join(', ')}. Else a bus (usb, virtio) or the beginning of a line of modules.alias.`,
    },
  );
}
