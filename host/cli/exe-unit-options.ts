/** The options that upstream's exe-unit takes, for the commands that stand in for it (the spec's exe-unit.md, 3.1). */
import type { Command } from 'commander';
import type { ExeUnitHost } from '../exe-unit/supervisor.ts';
import type { LogLevel } from '../lib/logger.ts';
import type { Context } from './context.ts';

/** Collects the values of a repeatable option. Not options.ts's: that brings half of the runtime into every start. */
const collect = (value: string, previous: string[] = []): string[] => [...previous, value];

/** Of every command of the exe-unit, before or after its name. */
export function addSupervisorOptions(command: Command): void {
  command
    .option('-b, --binary <path>', 'accepted and not executed: ya-vm is its own runtime')
    .option(
      '-r, --runtime-arg <word>',
      'argument for the runtime: --pci-device=SLOT; others are accepted',
      collect,
    )
    .option('--cap-handoff', "leave limits to the VM's size, instead of watching them")
    .option('--runtime-managed-hardware', 'the same')
    .option('--runtime-managed-image', 'accepted: ya-vm fetches images itself')
    .option('--sec-key <key>', 'accepted (SGX)')
    .option('--requestor-pub-key <hex>', 'accepted (SGX)')
    .option(
      '--accel <auto|kvm|tcg>',
      'acceleration (default: $YA_VM_ACCEL, else kvm: an emulated VM is refused)',
    );
}

/** Of those that run an activity. */
export function addActivityOptions(command: Command): void {
  command
    .requiredOption('-a, --agreement <file>', 'the agreement, JSON')
    .requiredOption('-w, --work-dir <folder>', "the activity's folder; created")
    .requiredOption('-c, --cache-dir <folder>', 'where images are kept; created');
}

/** What an exe-unit takes from its process. The level was checked when the log of the command line was made. */
export function exeUnitHost(context: Context, options: Record<string, unknown>): ExeUnitHost {
  const { logLevel, logFile } = options as { logLevel?: LogLevel; logFile?: string };
  return { env: context.env, terminal: context.stderr.isTTY === true, logLevel, logFile };
}
