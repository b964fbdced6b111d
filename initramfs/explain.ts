/** Why a module is in an initramfs, or why not. Pure. */
import type { Inspection } from './inspect.ts';
import { moduleName } from './modules/index-files.ts';

export interface Explanation {
  name: string;
  /** `unknown`: neither in it nor known to be in the kernel. */
  state: 'carried' | 'built in' | 'absent' | 'unknown';
  /** Bytes, unpacked; null unless it is carried. */
  size: number | null;
  /** In the kernel's modules folder; null when there is no manifest. */
  path: string | null;
  /** When the agent loads it; null when there is no manifest. */
  stage: string | null;
  /** What the first of `chain` is for; null when there is no manifest. */
  reason: string | null;
  /** From what was asked for down to this module, each because the one before wants it; one alone was asked for itself. */
  chain: string[];
  /** Others that do not load without it. */
  neededBy: string[];
  dependencies: string[];
  /** The preset of the build; null for none. */
  preset: string | null;
}

/** @param asked The module's name in any spelling: `virtio-gpu`, `virtio_gpu.ko`. */
export function explain(found: Inspection, asked: string): Explanation {
  const name = moduleName(asked);
  const carried = found.modules.find((module) => module.name === name);
  const described = found.manifest?.modules.find((module) => module.name === name);
  const chain = carried ? chainTo(found, name) : [];
  const first = found.manifest?.modules.find((module) => module.name === chain[0]);
  return {
    name,
    state: carried ? 'carried' : stateOutside(found, name),
    size: carried?.size ?? null,
    path: described?.path ?? null,
    stage: described?.stage ?? null,
    reason: first?.reason ?? null,
    chain,
    neededBy: found.modules
      .filter(({ dependencies }) => dependencies.includes(name))
      .map((each) => each.name),
    dependencies: carried?.dependencies ?? [],
    preset: found.manifest?.preset ?? null,
  };
}

function stateOutside({ builtin, manifest }: Inspection, name: string): Explanation['state'] {
  if (builtin.includes(name) || manifest?.builtin.some((each) => moduleName(each) === name))
    return 'built in';
  return manifest?.absent.some((each) => moduleName(each) === name) ? 'absent' : 'unknown';
}

/** By what brought each along, as the manifest has it; without that the module stands alone. */
function chainTo(found: Inspection, name: string): string[] {
  const chain = [name];
  for (;;) {
    const current = chain[0] as string;
    const via = found.manifest?.modules.find((module) => module.name === current)?.via;
    // A manifest that somebody changed may have a loop.
    if (via === undefined || via === null || chain.includes(via)) return chain;
    chain.unshift(via, ...between(found, via, current));
  }
}

/** What lies between a module and one that it needs. Dependencies are listed with all levels: of those that need `name`, the one with the fewest needs it itself. */
function between({ modules }: Inspection, from: string, name: string): string[] {
  const all = modules.find((module) => module.name === from)?.dependencies ?? [];
  const path: string[] = [];
  for (let current = name; ; ) {
    const above = modules
      .filter((module) => all.includes(module.name) && module.dependencies.includes(current))
      .sort((a, b) => a.dependencies.length - b.dependencies.length)[0];
    if (above === undefined || path.includes(above.name)) return path;
    path.unshift(above.name);
    current = above.name;
  }
}
