/** A relay between a bus, a cable and siblings that the test plays. */
import type { LogFields, Logger, RecordLevel } from '../../host/lib/logger.ts';
import { silentLogger } from '../../host/lib/logger.ts';
import { parseIp } from '../../host/network/frame/address.ts';
import { formatMac, macOf } from '../../host/network/frame/mac.ts';
import type { VpnSetup } from '../../host/network/types.ts';
import { type NetworkSource, parseNetworks } from '../../host/network/vpn/networks.ts';
import { openVpnRelayWith, type RelayEffects } from '../../host/network/vpn/relay.ts';
import type { RelayParts, VpnRelay } from '../../host/network/vpn/relay-face.ts';
import { FakeBus, FakeLink, type FakeSiblings, fakeSiblings } from './vpn-fakes.ts';
import { nodeId } from './vpn-frames.ts';

export const ME = nodeId('aa');
export const [BB, CC, DD] = ['bb', 'cc', 'dd'].map(nodeId) as [string, string, string];

export interface LogRecord {
  level: RecordLevel;
  fields: LogFields;
  message: string;
}

/** A logger that keeps its records. */
export function noteLog(records: LogRecord[], extra: LogFields = {}): Logger {
  const method =
    (level: RecordLevel) =>
    (...words: [string] | [LogFields, string]) => {
      const [fields, message] = words.length === 1 ? [{}, words[0]] : words;
      records.push({ level, fields: { ...extra, ...fields }, message });
    };
  const levels: RecordLevel[] = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'];
  return {
    ...(Object.fromEntries(levels.map((level) => [level, method(level)])) as unknown as Logger),
    child: (fields) => noteLog(records, { ...extra, ...fields }),
    enabled: () => true,
    close: () => silentLogger.close(),
  };
}

export interface PlayedRelay {
  bus: FakeBus;
  link: FakeLink;
  siblings: FakeSiblings[];
  records: LogRecord[];
  counters: Float64Array;
  /** Descriptors that the relay closed. */
  closed: number[];
  /** What `now` says. */
  clock: { now: number };
  open(): Promise<VpnRelay>;
}

interface Owner {
  teardown(end: () => Promise<void>): void;
}

export interface RelayOptions {
  networks?: NetworkSource[];
  requestorId?: string | null;
  role?: FakeSiblings['role'];
  effects?: Partial<RelayEffects>;
}

export const SOURCE: NetworkSource = {
  ...{ id: 'n', ip: '10.5.0.0/24', nodeIp: '10.5.0.2' },
  nodes: { '10.5.0.1': BB, '10.5.0.2': ME, '10.5.0.3': CC },
};

export function playRelay(t: Owner, options: RelayOptions = {}): PlayedRelay {
  const { networks = [SOURCE], requestorId = null, role = 'owner' } = options;
  const [bus, link, records, closed] = [new FakeBus(), new FakeLink(), [] as LogRecord[], [] as number[]];
  bus.identity = { alias: null, nodeId: ME, isLocked: false, isDefault: true, deleted: false };
  const siblings = fakeSiblings(role);
  const clock = { now: 1000 };
  const shared = new SharedArrayBuffer(32);
  const setup: VpnSetup = {
    ...{ networks: parseNetworks(networks), gsbUrl: 'unix:/nowhere', requestorId, siblings: '/nowhere' },
    nic: { kind: 'datagram', fd: 99 },
    mac: formatMac(macOf('guest', parseIp(networks[0]?.nodeIp ?? '10.0.0.1'))),
  };
  const native = { close: (fd: number) => void closed.push(fd) } as RelayParts['native'];
  const effects: RelayEffects = {
    connect: () => bus,
    openLink: () => link,
    openSiblings: siblings.open,
    now: () => clock.now,
    summaryEvery: 60_000,
    ...options.effects,
  };
  const open = async () => {
    const relay = await openVpnRelayWith(
      setup,
      { native, logger: noteLog(records), counters: shared },
      effects,
    );
    t.teardown(() => relay.close());
    return relay;
  };
  const counters = new Float64Array(shared);
  return { bus, link, siblings: siblings.all, records, counters, closed, clock, open };
}
