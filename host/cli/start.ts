/** `ya-vm start`: as the runtime of a stock exe-unit, boots what was deployed and serves the runtime API. */
import { join } from 'node:path';
import type { Command } from 'commander';
import type { HostNative } from '../../native/host-face.ts';
import { loadNative } from '../../native/load.ts';
import { createLogger, type Logger } from '../lib/logger.ts';
import { makeFolders } from '../lib/make-folders.ts';
import { explainNoKvm, providerAccel } from '../provider/accelerator.ts';
import type { Act } from './commands.ts';
import type { Context } from './context.ts';
import { addSupervisorOptions } from './exe-unit-options.ts';
import { EXIT, signalExit } from './exit.ts';
import { addRuntimeOptions, providerAssets, readRuntimeOptions } from './runtime-options.ts';
import { ownVersion } from './version.ts';

const HELP = `
A stock exe-unit starts this. Standard input and output carry the runtime API and nothing else; the log is in
logs/ in the work folder. The end of standard input ends the VM.

With the word start-entrypoint the image's own program is started too.`;

export function define(command: Command, act: Act): void {
  command.argument('[word...]', 'start-entrypoint, or anything').passThroughOptions();
  addRuntimeOptions(command);
  addSupervisorOptions(command);
  command.addHelpText('after', HELP);
  act(command, (context, given, [words]) => serve(context, given, words as string[]));
}

async function serve(context: Context, given: Record<string, unknown>, args: string[]): Promise<number> {
  const { env } = context;
  const { workFolder, endpoints, gpu } = readRuntimeOptions(given, env);
  const accel = providerAccel(given.accel as string | undefined, env);
  const { start } = await import('../runtime-api/start.ts');
  const { startVm } = await import('../runtime/start-vm.ts');
  const interrupt = new AbortController();
  let signalled: NodeJS.Signals | null = null;
  for (const name of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
    process.on(name, () => {
      signalled ??= name;
      interrupt.abort(new Error(name));
    });
  }
  // What the VM writes counts for the activity's folder, and goes with it.
  process.env.YAVM_DISK_DIR ??= workFolder;
  const logger = openLog(context, given, workFolder);
  try {
    const end = await start({
      workFolder,
      args,
      assets: providerAssets(env),
      accel,
      endpoints,
      native: loadNative() as HostNative,
      input: context.stdin,
      output: context.stdout,
      version: await ownVersion(),
      logger,
      signal: interrupt.signal,
      boot: (spec, nics, signal) => startVm({ ...spec, ...gpu }, { nics, signal, logger, env }),
    });
    logger.info({ reason: end.reason }, 'the runtime ends');
    if (end.reason === 'failed') throw end.error;
    return end.reason === 'interrupted' ? signalExit(signalled ?? 'SIGTERM') : EXIT.ok;
  } catch (error) {
    throw explainNoKvm(error);
  } finally {
    await logger.close();
  }
}

/** Standard error is the supervisor's, which a provider sends to /dev/null. */
function openLog(context: Context, given: Record<string, unknown>, workFolder: string): Logger {
  if (given.logFile !== undefined || given.logLevel !== undefined) return context.log;
  const folder = join(workFolder, 'logs');
  makeFolders(folder);
  return createLogger({ level: 'info', file: join(folder, 'ya-vm-runtime.log') });
}
