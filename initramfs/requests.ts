/** What a build asks for, from its options: a preset or the agent's table, more by name, more by device. Pure. */
import { modulesOfGroup } from './modules/alias-groups.ts';
import type { ModuleIndex } from './modules/index-files.ts';
import { MODULES, type ModuleRequest } from './modules/table.ts';
import { type PresetName, presetModules } from './presets.ts';

export interface ModuleWishes {
  /** Default: {@link MODULES}, what the agent needs. */
  modules?: readonly ModuleRequest[];
  /** Instead of `modules`. */
  preset?: PresetName | null;
  /** More modules, by name; each must be in the kernel. */
  extraModules?: readonly string[];
  /** More modules, by the devices that they drive ({@link modulesOfGroup}). */
  allOf?: readonly string[];
}

/** In the order in which they are resolved. @throws {ModuleError} a group that this kernel has no module for. */
export function moduleRequests(index: ModuleIndex, wishes: ModuleWishes): ModuleRequest[] {
  const { preset, extraModules = [], allOf = [] } = wishes;
  const own = preset ? presetModules(preset) : (wishes.modules ?? MODULES);
  return [
    ...own,
    ...extraModules.map((name) => request(name, 'asked for with --module')),
    ...allOf.flatMap((group) =>
      modulesOfGroup(index, group).map((name) => request(name, `asked for with --module-all-of ${group}`)),
    ),
  ];
}

function request(name: string, reason: string): ModuleRequest {
  return { name, symbol: null, stage: 'configure', reason };
}
