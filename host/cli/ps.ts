/** `ya-vm ps`: the running VMs of this user. */
import type { Command } from 'commander';
import { formatDuration } from '../lib/duration.ts';
import { printable } from '../lib/logger.ts';
import { runBase } from '../lib/paths.ts';
import { formatSize } from '../lib/size.ts';
import type { Act } from './commands.ts';
import { type Context, print, printJson, styleOf } from './context.ts';
import { EXIT } from './exit.ts';
import { alignColumns } from './style.ts';
import { usageOfVm } from './vm-usage.ts';
import { type ListedVm, listVms } from './vms.ts';

export function define(command: Command, act: Act): void {
  command
    .option('--json', 'print an array of records instead of a table')
    .option('-q, --quiet', 'print ids only')
    .addHelpText('after', '\nExamples:\n  ya-vm ps\n  ya-vm stop $(ya-vm ps -q)');
  act(command, (context, options) => ps(context, options, runBase(context.env)));
}

/** `base` holds the run folders. */
export async function ps(
  context: Context,
  options: { json?: boolean; quiet?: boolean },
  base: string,
): Promise<number> {
  const vms = await listVms(base);
  if (options.json)
    await printJson(
      context,
      vms.map(({ record, folder }) => ({ ...record, folder, host: usageOfVm(record) })),
    );
  else if (options.quiet) await print(context, ...vms.map(({ record }) => record.id));
  else {
    const [head, ...rows] = alignColumns([HEADINGS, ...vms.map((vm) => cells(vm, Date.now()))]);
    await print(context, styleOf(context, context.stdout).bold(head as string), ...rows);
  }
  return EXIT.ok;
}

const HEADINGS = ['ID', 'STATE', 'UP', 'MEMORY', 'CPUS', 'ACCEL', 'PID', 'TITLE'];

function cells({ record }: ListedVm, now: number): string[] {
  return [
    record.id,
    record.state,
    formatDuration(Math.max(0, now - Date.parse(record.started))),
    formatSize(record.memoryMiB * 1024 ** 2),
    String(record.cpus),
    record.accel,
    String(record.supervisor.pid),
    // The title holds words of a command line: they must not move the cursor.
    printable(record.title.replaceAll(/\s+/g, ' ')),
  ];
}
