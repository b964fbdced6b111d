/** The checks of `doctor` about a VM's way to the internet. Without one everything else works, so all of them are warnings. */
import { isYavmError } from '../../lib/errors.ts';
import { hasDefault6 } from '../../network/outbound/host-routes.ts';
import { parseNobody } from '../../runtime/privileges.ts';
import type { Finding } from './checks.ts';
import type { Probes } from './probes.ts';

const FALLBACK = "QEMU's user network takes its place, several times slower";

/** By a start, not by its version: Debian 12's does not know its own. */
export async function checkPasst(probes: Probes): Promise<Finding> {
  try {
    const { path, version, tcpDns } = await probes.passt();
    const detail = `${version ?? 'version unknown'} (${path})`;
    if (tcpDns) return { status: 'ok', detail };
    return {
      status: 'warn',
      detail: `${detail}: names by UDP only, because this host's resolver is on its loopback`,
      fix: 'A newer passt (2024-08), or a resolver in /etc/resolv.conf that is no loopback address.',
    };
  } catch (error) {
    if (!isYavmError(error)) throw error;
    return { status: 'warn', detail: `${error.message}: ${FALLBACK}`, fix: error.hint };
  }
}

const PING_RANGE = '/proc/sys/net/ipv4/ping_group_range';

/** passt needs no right for echo requests where its group is in the kernel's range. */
export async function checkPing(probes: Probes): Promise<Finding> {
  const [first = 1, last = 0] = ((await probes.readText(PING_RANGE)) ?? '').trim().split(/\s+/).map(Number);
  // Started by root it runs as nobody.
  const gid = probes.uid === 0 ? parseNobody((await probes.readText('/etc/passwd')) ?? '').gid : probes.gid;
  if (first <= gid && gid <= last) return { status: 'ok', detail: `group ${gid} may send echo requests` };
  return {
    status: 'warn',
    detail: `group ${gid} may not send echo requests: ping in a VM gets no answer from the internet`,
    fix: "sudo sysctl -w net.ipv4.ping_group_range='0 2147483647'",
  };
}

export async function checkIpv6(probes: Probes): Promise<Finding> {
  if (hasDefault6((await probes.readText('/proc/net/ipv6_route')) ?? '')) {
    return { status: 'ok', detail: 'there is a default route: VMs have it too' };
  }
  return { status: 'ok', detail: 'no default route: VMs reach the internet by IPv4 only' };
}
