/** VMs with a way to the internet (internet.ts), as `ya-vm run --net` makes them; and with passt alone, to compare with. */
import { readdirSync, readFileSync } from 'node:fs';
import type { Logger } from '../../host/lib/logger.ts';
import { outboundLink } from '../../host/network/guest-links.ts';
import { findPasst, type Passt, startPasst } from '../../host/network/outbound/passt.ts';
import {
  type Outbound,
  type OutboundOptions,
  startOutbound,
} from '../../host/network/outbound/start-outbound.ts';
import { NetworkThread } from '../../host/network/thread.ts';
import { INET, MTU, type OutboundPolicy, type OutboundStats } from '../../host/network/types.ts';
import type { Vm, VmSpec } from '../../host/runtime/index.ts';
import { loadNative } from '../../native/load.ts';
import { putGuestNet } from './guest-net.ts';
import { type Owner, startTestVm } from './vm.ts';

export const UNRESTRICTED: OutboundPolicy = { unrestricted: true, rules: [] };

export interface LoggedRecord {
  level: string;
  message: string;
  fields: Record<string, unknown>;
}

/** A logger that keeps what it is told. */
export function recordingLogger(): { logger: Logger; records: LoggedRecord[] } {
  const records: LoggedRecord[] = [];
  const method = (level: string, bound: Record<string, unknown>) =>
    ((first: string | Record<string, unknown>, second?: string) => {
      const fields = typeof first === 'string' ? bound : { ...bound, ...first };
      records.push({ level, fields, message: typeof first === 'string' ? first : (second ?? '') });
    }) as Logger['info'];
  const loggerWith = (bound: Record<string, unknown>): Logger => ({
    trace: method('trace', bound),
    debug: method('debug', bound),
    info: method('info', bound),
    warn: method('warn', bound),
    error: method('error', bound),
    fatal: method('fatal', bound),
    child: (fields) => loggerWith({ ...bound, ...fields }),
    enabled: (level) => level !== 'trace',
    close: async () => {},
  });
  return { logger: loggerWith({}), records };
}

export interface OutboundVm {
  vm: Vm;
  outbound: Outbound;
  thread: NetworkThread;
  /** What was logged. */
  records: LoggedRecord[];
  stats(): Promise<Omit<OutboundStats, 'upstream' | 'restarts'>>;
}

export type OutboundVmOptions = Partial<Pick<OutboundOptions, 'policy' | 'publish' | 'mtu' | 'env'>> & {
  spec?: Partial<VmSpec>;
};

/** The VM has guest-net; all of it ends with the test. */
export async function startOutboundVm(t: Owner, options: OutboundVmOptions = {}): Promise<OutboundVm> {
  const { policy = UNRESTRICTED, publish, mtu, env = process.env, spec } = options;
  const { logger, records } = recordingLogger();
  const native = loadNative();
  const thread = new NetworkThread(logger);
  t.teardown(() => thread.close());
  const outbound = await startOutbound({ policy, publish, mtu, env, native, logger, thread });
  t.teardown(() => outbound.close());
  const { link, nameservers, backend, userNetwork } = outbound;
  const network = { links: [link], nameservers };
  const vm = await startTestVm(t, { network, ...spec }, { nics: [backend], userNetwork });
  await putGuestNet(vm);
  const stats = async () => {
    const { outbound } = await thread.stats();
    if (outbound === null) throw new Error('the thread has no way out');
    return outbound;
  };
  return { vm, outbound, thread, records, stats };
}

export interface PlainVm {
  vm: Vm;
  passt: Passt;
}

/** passt without a filter: QEMU's NIC is right on its cable. */
export async function startPlainVm(
  t: Owner,
  { mtu = MTU.outbound, spec = {} }: { mtu?: number; spec?: Partial<VmSpec> } = {},
): Promise<PlainVm> {
  const program = await findPasst(process.env);
  const dns = { ipv4: INET.gateway, ipv6: null };
  const passt = await startPasst(program, { mtu, publish: [], dns, ipv6: true }, loadNative());
  t.teardown(async () => {
    passt.kill();
    await passt.exited;
  });
  const network = { links: [outboundLink({ mtu, ipv6: true })], nameservers: [INET.gateway] };
  const vm = await startTestVm(t, { network, ...spec }, { nics: [{ kind: 'stream', fd: passt.fd }] });
  await putGuestNet(vm);
  return { vm, passt };
}

/** Pids of the passts that a process has started. */
export function passtsOf(pid: number): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => isPasst(name, pid))
    .map(Number);
}

function isPasst(name: string, parent: number): boolean {
  try {
    // PID (NAME) STATE PARENT …; passt calls itself by the CPU that it was built for, too.
    const [, command = '', state, owner] =
      /^\d+ \((.*)\) (\S) (\d+)/.exec(readFileSync(`/proc/${name}/stat`, 'latin1')) ?? [];
    return command.startsWith('passt') && state !== 'Z' && Number(owner) === parent;
  } catch {
    // Gone.
    return false;
  }
}
