/** `ya-vm stats`: what a running VM uses, as its guest counts it, and what it takes of this host. */
import { join } from 'node:path';
import type { Command } from 'commander';
import { AttachClient } from '../attach/client.ts';
import { formatDuration } from '../lib/duration.ts';
import { printable } from '../lib/logger.ts';
import { runBase } from '../lib/paths.ts';
import { formatSize } from '../lib/size.ts';
import type { StatsReply } from '../runtime/types.ts';
import { ATTACH_SOCKET } from './boot.ts';
import type { Act } from './commands.ts';
import { print, printJson } from './context.ts';
import { EXIT } from './exit.ts';
import { alignColumns } from './style.ts';
import { usageOfVm, type VmUsage } from './vm-usage.ts';
import { listVms, selectVm } from './vms.ts';

export function define(command: Command, act: Act): void {
  command.argument('[id]', "a VM's id (default: the only VM)").option('--json', 'print an object');
  act(command, async (context, options, [id]) => {
    const vm = selectVm(await listVms(runBase(context.env)), id as string | undefined);
    const client = await AttachClient.connect(join(vm.folder, ATTACH_SOCKET), context.log);
    try {
      const stats = await client.stats();
      const host = usageOfVm(vm.record);
      if (options.json) await printJson(context, { id: vm.record.id, ...stats, host });
      else await print(context, ...statsLines(stats, host));
      return EXIT.ok;
    } finally {
      client.close();
    }
  });
}

/** For people. */
export function statsLines(
  { uptime, memory, cpu, root, links, processes }: StatsReply,
  host: VmUsage | null = null,
): string[] {
  const used = memory.total - memory.available;
  const written = root.total - root.free;
  return alignColumns([
    ['up', formatDuration(uptime)],
    ['memory', `${formatSize(used)} of ${formatSize(memory.total)} (agent ${formatSize(memory.agent)})`],
    ['cpu', `${formatDuration(cpu.user)} user, ${formatDuration(cpu.system)} system`],
    ['root', `${formatSize(written)} of ${formatSize(root.total)}`],
    ['processes', String(processes)],
    ...links.map(({ name, rxBytes, txBytes }) => [
      printable(name),
      `${formatSize(rxBytes)} received, ${formatSize(txBytes)} sent`,
    ]),
    ...(host === null ? [] : [['host', hostLine(host)]]),
  ]);
}

function hostLine({ cpuSeconds, memory, shared }: VmUsage): string {
  const parts = [
    `memory ${formatSize(memory)} of its own`,
    `${formatSize(shared)} shared`,
    `CPU ${formatDuration(cpuSeconds * 1000)}`,
  ];
  return parts.join(', ');
}
