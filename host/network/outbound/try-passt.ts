/** Whether passt works here, by using it: it is started as for a VM, asked for the gateway, and ended. For `doctor`. */
import type { HostNative } from '../../../native/host-face.ts';
import { MTU } from '../types.ts';
import { guestDns, readResolvers } from './host-resolvers.ts';
import { waysOut } from './host-routes.ts';
import { findPasst, startPasst } from './passt.ts';
import { forwardsTcpDns } from './passt-arguments.ts';

export interface PasstTrial {
  path: string;
  /** As it says; null: it does not. */
  version: string | null;
  /** Whether a guest's questions for names by TCP get anywhere. */
  tcpDns: boolean;
}

/** @throws {YavmError} YAVM_E_NET_PASST, with what helps */
export async function tryPasst(
  native: HostNative,
  env: Readonly<Record<string, string | undefined>>,
): Promise<PasstTrial> {
  const program = await findPasst(env);
  const dns = guestDns(readResolvers(), forwardsTcpDns(program));
  const options = { mtu: MTU.outbound, publish: [], dns, ipv6: waysOut().ipv6 };
  const passt = await startPasst(program, options, native);
  native.close(passt.fd);
  passt.kill();
  await passt.exited;
  return { path: program.path, version: program.version, tcpDns: dns.tcp };
}
