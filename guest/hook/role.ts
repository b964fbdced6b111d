/**
 * The hook role: `/init --role hook PHASE`, a child of the agent that evaluates `/hook/hook.js`, calls one function of it, and
 * ends. Descriptors: 3 takes lines of JSON, {@link HookRecord}; 4 is the task's root, where there is one.
 */
import type { Native } from '../../native/face.ts';
import { ModuleLoader } from '../boot/modules.ts';
import type { Engine } from '../engine.ts';
import { O_CLOEXEC, O_DIRECTORY, O_RDONLY } from '../lib/constants.ts';
import { writeAll } from '../lib/replace-file.ts';
import type { Hook, HookPhase } from './api.ts';
import { HookFolder } from './files.ts';
import { HOOK, MAX_SCRIPT } from './manifest.ts';
import { type HookRecord, MAX_TEXT, RECORDS_FD, readHook, TASK_FD } from './parts.ts';
import { runProgram } from './spawn.ts';

/** Ends the process: 0, or 1 when the hook failed. Never rejects. */
export async function runHookRole(native: Native, words: string[], engine: Engine): Promise<void> {
  const [phase, task] = words as [HookPhase, string | undefined];
  // The agent's deadline ends what takes too long.
  engine.setCallbackBudget(1e9);
  const say = (record: HookRecord) =>
    writeAll(native, RECORDS_FD, new TextEncoder().encode(`${JSON.stringify(record)}\n`));
  const log = (level: 'debug' | 'info' | 'warn' | 'error', text: unknown) =>
    say({ level, text: String(text).slice(0, MAX_TEXT) });
  engine.setConsole(log);
  try {
    const name = readHook(native)?.name ?? HOOK.script;
    const script = native.readText(-1, HOOK.script, MAX_SCRIPT);
    const functions = engine.evaluate(script, name) as Record<string, (hook: Hook) => unknown>;
    await functions[phase]?.(hookFor(native, phase, task === 'task', log));
    say({ done: true });
  } catch (error) {
    say({ failed: described(error).slice(0, MAX_TEXT) });
    engine.exit(1);
  }
  engine.exit(0);
}

function hookFor(
  native: Native,
  phase: HookPhase,
  hasTask: boolean,
  log: (level: 'debug' | 'info' | 'warn' | 'error', text: unknown) => void,
): Hook {
  const rootFd = native.open('/', O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  const modules = new ModuleLoader(native, rootFd);
  return {
    phase,
    log: {
      debug: (text) => log('debug', text),
      info: (text) => log('info', text),
      warn: (text) => log('warn', text),
      error: (text) => log('error', text),
    },
    initramfs: new HookFolder(native, rootFd),
    task: hasTask ? new HookFolder(native, TASK_FD) : null,
    loadModule: (name, parameters) => {
      if (parameters !== undefined) modules.configure({ options: { [name]: parameters } });
      modules.load(name);
    },
    spawn: (argv, options = {}) => {
      const place = options.in ?? (hasTask ? 'task' : 'initramfs');
      if (place === 'task' && !hasTask) throw new Error('there is no task yet: spawn in the initramfs');
      return runProgram(native, argv, options, place === 'task' ? TASK_FD : undefined);
    },
  };
}

/** Message and stack: QuickJS keeps them apart. */
function described(error: unknown): string {
  return error instanceof Error ? `${error}\n${error.stack ?? ''}` : String(error);
}
