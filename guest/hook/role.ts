/**
 * The hook role: `/init --role hook PHASE`, a child of the agent that runs `/hook/hook.bin`, calls one function of it, and
 * ends. Descriptors: 3 takes lines of JSON, {@link HookRecord}; 4 is the task's root, where there is one.
 */
import type { Native } from '../../native/face.ts';
import { ModuleLoader } from '../boot/modules.ts';
import type { Engine } from '../engine.ts';
import { O_CLOEXEC, O_DIRECTORY, O_RDONLY } from '../lib/constants.ts';
import { writeAll } from '../lib/replace-file.ts';
import type { Hook, HookPhase } from './api.ts';
import { HookFolder } from './files.ts';
import { bytecodeMark, HOOK, MAX_BYTECODE } from './manifest.ts';
import { type HookRecord, MAX_TEXT, RECORDS_FD, TASK_FD } from './parts.ts';
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
    const bytes = readBytecode(native);
    const mark = bytecodeMark(bytes);
    // The engine trusts bytecode: what is not for it could do anything.
    if (mark !== engine.bytecodeMark) {
      say({
        failed: `it was made as ${mark ?? 'no bytecode'}, and this /init reads ${engine.bytecodeMark}`,
        foreign: true,
      });
      return engine.exit(1);
    }
    const script = bytes.subarray(mark.length + 1);
    const functions = engine.runBytecode(script) as Record<string, (hook: Hook) => unknown>;
    await functions[phase]?.(hookFor(native, phase, task === 'task', log));
    say({ done: true });
  } catch (error) {
    say({ failed: described(error).slice(0, MAX_TEXT) });
    engine.exit(1);
  }
  engine.exit(0);
}

function readBytecode(native: Native): Uint8Array {
  const fd = native.open(HOOK.bytecode, O_RDONLY | O_CLOEXEC, 0);
  const { size } = native.fstat(fd);
  if (size > MAX_BYTECODE) throw new Error(`${HOOK.bytecode}: larger than ${MAX_BYTECODE} bytes`);
  const bytes = new Uint8Array(size);
  let filled = 0;
  for (let count = 1; count > 0 && filled < size; filled += count)
    count = native.read(fd, bytes.subarray(filled));
  native.close(fd);
  return bytes.subarray(0, filled);
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
