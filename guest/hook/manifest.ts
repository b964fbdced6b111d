/** What the builder puts into an initramfs for a hook, and the agent finds there. */
import type { HookPhase } from './api.ts';

export const HOOK = { script: '/hook/hook.js', manifest: '/hook/hook.json' } as const;

export const HOOK_PHASES: readonly HookPhase[] = [
  'afterHello',
  'beforeMounts',
  'afterConfigure',
  'beforeStop',
];

/** Bytes: of the script, and of its manifest. */
export const MAX_SCRIPT = 256 * 1024;
export const MAX_MANIFEST = 256 * 1024;

/** `/hook/hook.json`: what the builder says of `/hook/hook.js`. */
export interface HookManifest {
  /** Name that the script has in stacks. */
  name: string;
  phases: HookPhase[];
  /** Of a bundle: for each line of the script, index of its source and line there; 0, 0 where there is none. */
  sources?: string[];
  lines?: number[];
}
