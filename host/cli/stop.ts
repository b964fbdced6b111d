/** `ya-vm stop`: asks the process that supervises a VM to end it, then insists. */
import type { Command } from 'commander';
import { sleep } from '../lib/deadline.ts';
import { parseDuration } from '../lib/duration.ts';
import { hasErrno, YavmError } from '../lib/errors.ts';
import { runBase } from '../lib/paths.ts';
import { isAlive, type ProcessIdentity } from '../lib/process.ts';
import type { Act } from './commands.ts';
import { print } from './context.ts';
import { EXIT } from './exit.ts';
import { forOption, usageError } from './options.ts';
import { type ListedVm, listVms, selectVm } from './vms.ts';

export function define(command: Command, act: Act): void {
  command
    .argument('[id...]', 'ids of VMs, or unique beginnings of them')
    .option('--all', 'stop every VM of this user')
    .option('--grace <time>', 'how long the command may take to end before the VM is killed', '10s')
    .addHelpText('after', '\nExamples:\n  ya-vm stop tobikuda\n  ya-vm stop --all --grace 2s');
  act(command, async (context, options, [ids]) => {
    const grace = forOption('--grace', parseDuration)(options.grace as string);
    const vms = await listVms(runBase(context.env));
    const chosen = choose(vms, ids as string[], options.all === true);
    await Promise.all(chosen.map((vm) => stopVm(vm, { grace, killTime: KILL_TIME })));
    await print(context, ...chosen.map(({ record }) => record.id));
    return EXIT.ok;
  });
}

/** The VMs that the words name. @throws {YavmError} YAVM_E_USAGE without any; {@link selectVm} */
export function choose(vms: readonly ListedVm[], ids: readonly string[], all: boolean): readonly ListedVm[] {
  if (all) return vms;
  if (ids.length === 0) throw usageError('no VM named', "Give an id of 'ya-vm ps', or --all.");
  return [...new Set(ids.map((id) => selectVm(vms, id)))];
}

/** Time for a supervisor to clear up after it was told to kill its VM, milliseconds. */
const KILL_TIME = 5000;

/**
 * SIGTERM: the supervisor passes it to the command and waits. A second one after `grace`: it kills the VM. At last
 * SIGKILL, which the VM does not survive either: QEMU dies with its parent.
 */
export async function stopVm(
  { record }: ListedVm,
  { grace, killTime }: { grace: number; killTime: number },
): Promise<void> {
  const steps = [
    { signal: 'SIGTERM', wait: grace },
    { signal: 'SIGTERM', wait: killTime },
    { signal: 'SIGKILL', wait: killTime },
  ] as const;
  for (const { signal, wait } of steps) {
    send(record.supervisor, signal, record.id);
    if (await ends(record.supervisor, wait)) return;
  }
  throw new YavmError('YAVM_E_STOP', `VM ${record.id}: process ${record.supervisor.pid} does not end`, {
    hint: `See: ps -o pid,stat,wchan,args ${record.supervisor.pid}`,
  });
}

function send(supervisor: ProcessIdentity, signal: NodeJS.Signals, id: string): void {
  if (!isAlive(supervisor)) return;
  try {
    process.kill(supervisor.pid, signal);
  } catch (error) {
    if (hasErrno(error, 'ESRCH')) return;
    throw new YavmError('YAVM_E_STOP', `VM ${id}: cannot signal process ${supervisor.pid}`, { cause: error });
  }
}

/** Looks every 50 ms: the supervisor is not a child of ours, so there is nothing to wait on. */
async function ends(supervisor: ProcessIdentity, milliseconds: number): Promise<boolean> {
  const deadline = performance.now() + milliseconds;
  while (isAlive(supervisor)) {
    if (performance.now() >= deadline) return false;
    await sleep(50);
  }
  return true;
}
