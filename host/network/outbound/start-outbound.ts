/**
 * A VM's way to the internet, from the main thread: the guest's NIC is on a cable to the filter, which is in the network's
 * thread, and from there another one leads to passt. passt is watched: it is started anew once.
 */
import type { LinkSpec } from '../../../guest/protocol/messages.ts';
import type { HostNative } from '../../../native/host-face.ts';
import { isYavmError, YavmError } from '../../lib/errors.ts';
import type { Logger } from '../../lib/logger.ts';
import { USER_NETWORK, type UserNetwork } from '../../runtime/user-network.ts';
import { outboundLink } from '../guest-links.ts';
import {
  INET,
  MTU,
  type NicBackend,
  type OutboundPolicy,
  type OutboundSetup,
  type OutboundStats,
  type PublishedPort,
} from '../types.ts';
import { guestDns, readResolvers } from './host-resolvers.ts';
import { waysOut } from './host-routes.ts';
import { findPasst, startPasst } from './passt.ts';
import { forwardsTcpDns, isOld } from './passt-arguments.ts';
import { PasstKeeper } from './passt-keeper.ts';
import { checkPorts } from './published-ports.ts';

/** What is needed of the network's thread (NetworkThread). */
export interface OutboundThread {
  openOutbound(setup: OutboundSetup): Promise<void>;
  replaceUpstream(fd: number): Promise<void>;
}

export interface OutboundOptions {
  policy: OutboundPolicy;
  publish?: readonly PublishedPort[];
  /** Of the guest's NIC; default 65520. */
  mtu?: number;
  native: HostNative;
  env: Readonly<Record<string, string | undefined>>;
  logger: Logger;
  thread: OutboundThread;
}

export interface Outbound {
  /** For QEMU's NIC; to be taken over. */
  backend: NicBackend;
  /** Where QEMU itself is the way out; its cable is to be taken over. */
  userNetwork?: UserNetwork;
  link: LinkSpec;
  /** What the guest asks for names. */
  nameservers: string[];
  /** Resolves when there is no way out any more; the VM goes on, and what it connects to is refused at once. */
  failed: Promise<YavmError>;
  /** What only this side knows. */
  readonly stats: Pick<OutboundStats, 'upstream' | 'restarts'>;
  /** Once the VM has ended, and before the network's thread is closed. Never rejects. */
  close(): Promise<void>;
}

type Way = OutboundStats['upstream'];

/** Chooses the way out; for tests, and for who has reasons. */
const VARIABLE = 'YA_VM_OUTBOUND';
/** Bytes of each buffer of the guest's cable. */
const CABLE = 1024 * 1024;

/**
 * Must be called in the main thread, see launchQemu.
 * @throws {YavmError} YAVM_E_NET_OUTBOUND: there is no way; YAVM_E_NET_PUBLISH: a port cannot be had; YAVM_E_NET_THREAD
 */
export async function startOutbound(options: OutboundOptions): Promise<Outbound> {
  const { publish = [], env, logger } = options;
  const asked = wayOf(env);
  await checkPorts(publish);
  if (asked === 'qemu') return await throughQemu(options);
  try {
    return await throughPasst(options);
  } catch (error) {
    if (!isYavmError(error, 'YAVM_E_NET_PASST')) throw error;
    if (asked === 'passt') {
      throw new YavmError('YAVM_E_NET_OUTBOUND', `there is no way to the internet (${VARIABLE}=passt)`, {
        cause: error,
        hint: error.hint,
      });
    }
    logger.warn(
      { reason: error.message, fix: error.hint },
      "passt cannot be used: the VM's way to the internet is QEMU's user network, which is several times slower",
    );
    return await throughQemu(options);
  }
}

/** @throws {YavmError} YAVM_E_NET_OUTBOUND */
export function wayOf(env: Readonly<Record<string, string | undefined>>): Way | null {
  const value = env[VARIABLE];
  if (value === undefined || value === '' || value === 'auto') return null;
  if (value === 'passt' || value === 'qemu') return value;
  throw new YavmError('YAVM_E_NET_OUTBOUND', `${VARIABLE}=${value}: not passt, qemu or auto`);
}

async function throughPasst(options: OutboundOptions): Promise<Outbound> {
  const { publish = [], mtu = MTU.outbound, native, env, logger, thread } = options;
  const program = await findPasst(env);
  const { ipv6 } = waysOut();
  const dns = guestDns(readResolvers(), forwardsTcpDns(program));
  if (!dns.tcp) {
    logger.info(
      { passt: program.version },
      "this host's resolver is on its loopback, and this passt forwards names by UDP only: long answers, which need TCP, are not to be had",
    );
  }
  const start = () => startPasst(program, { mtu, publish, dns, ipv6 }, native);
  const passt = await start();
  const replace = (fd: number) => thread.replaceUpstream(fd);
  const keeper = new PasstKeeper(passt, { native, logger, start, replace });
  return await open(options, {
    upstream: 'passt',
    upstreamFd: passt.fd,
    ipv6,
    mtu,
    dns,
    mendsOldPasst: isOld(program),
    failed: keeper.failed,
    restarts: () => keeper.restarts,
    close: () => keeper.close(),
  });
}

async function throughQemu(options: OutboundOptions): Promise<Outbound> {
  const { publish = [], mtu = MTU.outbound, native } = options;
  const { ipv6 } = waysOut();
  const [near, far] = native.cable('unix', CABLE);
  try {
    const outbound = await open(options, {
      upstream: 'qemu',
      upstreamFd: near,
      ipv6,
      mtu: Math.min(mtu, USER_NETWORK.mtu),
      dns: { ipv4: USER_NETWORK.dns, ipv6: USER_NETWORK.dns6 },
      // It ends with QEMU, and so with the VM.
      failed: new Promise(() => {}),
      restarts: () => 0,
      close: async () => {},
    });
    return { ...outbound, userNetwork: { fd: far, ipv6, published: publish } };
  } catch (error) {
    native.close(far);
    throw error;
  }
}

interface WayOut {
  upstream: Way;
  /** Taken over. */
  upstreamFd: number;
  ipv6: boolean;
  mtu: number;
  dns: { ipv4: string | null; ipv6: string | null };
  mendsOldPasst?: boolean;
  failed: Promise<YavmError>;
  restarts(): number;
  close(): Promise<void>;
}

/** Makes the guest's cable, and has the filter put between the two. */
async function open(options: OutboundOptions, way: WayOut): Promise<Outbound> {
  const { policy, publish = [], native, thread } = options;
  const { ipv6, mtu, dns } = way;
  let guest: number | null = null;
  try {
    const [near, far] = native.cable('unix', CABLE);
    guest = far;
    await thread.openOutbound({
      policy,
      nic: { kind: 'stream', fd: near },
      upstream: { fd: way.upstreamFd },
      dns: { ipv4: dns.ipv4 ?? INET.gateway, ipv6: dns.ipv6 },
      ipv6,
      published: publish,
      mendsOldPasst: way.mendsOldPasst ?? false,
    });
  } catch (error) {
    if (guest !== null) native.close(guest);
    await way.close();
    throw error;
  }
  return {
    backend: { kind: 'stream', fd: guest },
    link: outboundLink({ mtu, ipv6 }),
    nameservers: [dns.ipv4, ipv6 ? dns.ipv6 : null].filter((address) => address !== null),
    failed: way.failed,
    get stats() {
      return { upstream: way.upstream, restarts: way.restarts() };
    },
    close: way.close,
  };
}
