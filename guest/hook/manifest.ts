/** What the builder puts into an initramfs for a hook, and the agent finds there. */
import type { HookPhase } from './api.ts';

export const HOOK = { bytecode: '/hook/hook.bin', manifest: '/hook/hook.json' } as const;

export const HOOK_PHASES: readonly HookPhase[] = [
  'afterHello',
  'beforeMounts',
  'afterConfigure',
  'beforeStop',
];

/** Bytes: of the script, of what it is compiled to, and of its manifest. */
export const MAX_SCRIPT = 256 * 1024;
export const MAX_BYTECODE = 512 * 1024;
export const MAX_MANIFEST = 256 * 1024;

/** `/hook/hook.json`: what the builder says of `/hook/hook.bin`. */
export interface HookManifest {
  /** Name that the script has in stacks. */
  name: string;
  phases: HookPhase[];
  /** Of a bundle: for each line of the script, index of its source and line there; 0, 0 where there is none. */
  sources?: string[];
  lines?: number[];
}

/** How the first line of a hook's bytecode begins. The whole line tells which engine reads it (native/engine/tool/bytecode.c). */
const MARK = 'yavm-bytecode ';
const MAX_MARK = 128;
const NEWLINE = 10;

/** First line of the bytecode, without its end; null: it is none of ours. */
export function bytecodeMark(bytes: Uint8Array): string | null {
  const end = bytes.subarray(0, MAX_MARK).indexOf(NEWLINE);
  const line = String.fromCharCode(...bytes.subarray(0, Math.max(end, 0)));
  return line.startsWith(MARK) ? line : null;
}

/** What failed, with lines of the script turned into lines of what it was made from; the first of them leads. */
export function hookFailure(hook: HookManifest, text: string): string {
  const { name, sources = [], lines } = hook;
  let first: string | undefined;
  const [message = '', ...stack] = text.trim().split('\n');
  const escaped = name.replace(/[^\w]/g, '\\$&');
  const place = new RegExp(`${escaped}:(\\d+)(?::\\d+)?`);
  for (const frame of stack) {
    const line = Number(place.exec(frame)?.[1]);
    if (!line) continue;
    const at = 2 * (line - 1);
    first = lines
      ? lines[at + 1]
        ? `${sources[lines[at] as number]}:${lines[at + 1]}`
        : undefined
      : `${name}:${line}`;
    if (first !== undefined) break;
  }
  return `${first ?? name}: ${message}`;
}
