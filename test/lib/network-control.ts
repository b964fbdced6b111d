/** A network that answers as a test wants, for `ya-vm net` and its socket. */
import { YavmError } from '../../host/lib/errors.ts';
import type { NetworkControl } from '../../host/network/control-face.ts';
import type { NetworkStats, PingReply } from '../../host/network/types.ts';

const nic = { framesIn: 12, bytesIn: 3400, framesOut: 10, bytesOut: 2100 };

export const SAMPLE_STATS: NetworkStats = {
  vpn: {
    nic,
    dropped: { 'unknown network': 2 },
    networks: [
      {
        id: 'lab',
        range: '10.5.0.0/24',
        role: 'owner',
        dropped: { 'no such address': 5 },
        peers: [
          { address: '10.5.0.2', nodeId: `0x${'1'.repeat(40)}`, kind: 'self', lastSeen: null, ...nic },
          {
            address: '10.5.0.3',
            nodeId: `0x${'2'.repeat(40)}`,
            kind: 'node',
            lastSeen: 1_796_000_000_000,
            ...nic,
          },
        ],
      },
    ],
  },
  outbound: {
    nic,
    upstream: 'passt',
    flows: 3,
    resolved: 2,
    refusals: [
      { destination: 'tcp 169.254.169.254:80', reason: 'link-local', count: 4 },
      { destination: 'tcp 192.0.2.7:443', name: 'example.org', reason: 'not allowed', count: 1 },
    ],
    dropped: { 'vlan tag': 1 },
    restarts: 0,
  },
};

export class FakeControl implements NetworkControl {
  current: NetworkStats = SAMPLE_STATS;
  /** Files, and null for each end. */
  readonly captures: (string | null)[] = [];
  readonly pings: { address: string; milliseconds: number }[] = [];
  /** What a ping does; by default it is answered after 1.5 ms. */
  onPing: (address: string, milliseconds: number) => Promise<PingReply> = async () => ({ milliseconds: 1.5 });
  /** Delays what captures do. */
  gate: Promise<void> | null = null;

  async stats(): Promise<NetworkStats> {
    return this.current;
  }

  async ping(address: string, milliseconds: number): Promise<PingReply> {
    this.pings.push({ address, milliseconds });
    return await this.onPing(address, milliseconds);
  }

  async capture(file: string | null): Promise<void> {
    await this.gate;
    if (file?.includes('refused'))
      throw new YavmError('YAVM_E_NET_CAPTURE', `${file}: refused`, { hint: 'Elsewhere.' });
    this.captures.push(file);
  }
}
