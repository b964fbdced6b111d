/** `prepare`: what a snapshot of this VM shall have behind it. */
import { holdDrivers } from '../boot/late-drivers.ts';
import type { Purpose } from '../boot/module-sets.ts';
import { mountAgent } from '../boot/mounts.ts';
import { GuestError } from '../errors.ts';
import { raiseLoopback } from '../net/configure.ts';
import { CgroupTree } from '../process/cgroup.ts';
import type { Agent } from './agent.ts';
import { loadPresent } from './drivers.ts';

/** What tasks need as a rule. Folders of the host and cards are not among it: a VM with these is not made from a snapshot. */
const PURPOSES: readonly Purpose[] = ['disks', 'layers', 'ext4', 'nics', 'ipv6', 'extras'];

/**
 * Does what no task decides, and loads drivers that do nothing yet: none of what the host has put into the slots is real,
 * and a driver that is bound would remember it.
 * @throws {GuestError} already-configured, module-failed, mount-failed
 */
export async function prepare(agent: Agent): Promise<Record<string, never>> {
  if (agent.prepared || agent.configuring) {
    throw new GuestError('already-configured', 'this VM has been prepared or configured before');
  }
  const { native, modules } = agent;
  mountAgent(native);
  holdDrivers(native);
  for (const purpose of PURPOSES) modules.loadWhereThere(purpose);
  raiseLoopback(native);
  const cgroups = new CgroupTree(native);
  cgroups.prepare();
  agent.prepared = { cgroups };
  // The devices of the machine are those that its VMs will have. Last, it drops the lists of modules, too.
  await loadPresent(agent);
  return {};
}
