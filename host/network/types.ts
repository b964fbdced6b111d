/** What the parts of the network, and those that use it, say to each other. */

// ---------------------------------------------------------------- a NIC and what it is plugged into

/**
 * The end of a NIC's cable that QEMU gets; `fd` is a descriptor of this process, to be taken over.
 * `datagram`: a connected socket, one frame a datagram. `stream`: a connected socket, each frame behind its length (u32,
 * big-endian; QEMU's own framing, and passt's). `stream-listener`: a listening socket for one such connection.
 */
export interface NicBackend {
  kind: 'datagram' | 'stream' | 'stream-listener';
  fd: number;
}

/** How frames travel between QEMU and the relay. Datagrams may be lost when a buffer is full; streams are not. */
export type LinkKind = 'udp' | 'tcp' | 'unix' | 'unix-datagram';

/** Largest frame that any NIC here sends or takes: MTU 65521 and an Ethernet header. Bytes. */
export const MAX_FRAME = 65_535;
/** Ethernet's header. Bytes. */
export const ETHERNET_HEADER = 14;

/** MTUs by network (design.md 11). IPv6 allows no less than 1280 (RFC 8200), so a VPN with an IPv6 network has that. */
export const MTU = { vpn: 1220, vpnIpv6: 1280, outbound: 65_520, stockInet: 65_521 } as const;

/** Numbers of one NIC, as a guest would count them: `in` is what it got. */
export interface NicCounters {
  framesIn: number;
  bytesIn: number;
  framesOut: number;
  bytesOut: number;
}

/** The same, kept by the worker and read by the main thread at any time: a SharedArrayBuffer of four Float64. */
export type SharedCounters = SharedArrayBuffer;

/** Frames that went nowhere, by reason. */
export type Dropped = Readonly<Record<string, number>>;

// ---------------------------------------------------------------- VPN

/** One network of a deployment, checked (vpn/networks.ts). Addresses in canonical text, IPv4 or IPv6. */
export interface VpnNetwork {
  /** Chosen by the requestor, shared by all that take part. */
  id: string;
  /** As given; host bits may be set. */
  address: string;
  /** Bits. */
  prefix: number;
  /** The VM's own address there. */
  nodeIp: string;
  gateway?: string;
  /** Node ids (`0x…`, lower case) by address; own ones may be among them. */
  nodes: Readonly<Record<string, string>>;
}

/** What the relay of one activity needs; crosses to the worker as it is. */
export interface VpnSetup {
  networks: readonly VpnNetwork[];
  /** The bus; the relay has a connection of its own there. */
  gsbUrl: string;
  /** Activities of one requestor share a network on one host; null: with nobody. */
  requestorId: string | null;
  /** The relay's end of the NIC's cable; taken over. */
  nic: { kind: 'datagram' | 'stream'; fd: number };
  mac: string;
  /** Folder (0700) for the sockets by which siblings find each other: the run base. */
  siblings: string;
}

export interface PeerStats extends NicCounters {
  address: string;
  nodeId: string;
  /** `self`: the VM's own. `node`: told by the requestor. `learned`: from its frames. `local`: another VM of this host. */
  kind: 'self' | 'node' | 'learned' | 'local';
  /** Milliseconds since the epoch; null: never. */
  lastSeen: number | null;
}

export interface VpnNetworkStats {
  id: string;
  /** `address/prefix`. */
  range: string;
  /** `owner`: holds the names on the bus. `sibling`: gets its frames from another VM of this host. `waiting`: neither, yet. */
  role: 'owner' | 'sibling' | 'waiting';
  peers: PeerStats[];
  dropped: Dropped;
}

export interface VpnStats {
  nic: NicCounters;
  /** Frames that belong to no network, or are none. */
  dropped: Dropped;
  networks: VpnNetworkStats[];
}

// ---------------------------------------------------------------- outbound

/** One thing that may be reached: from a URL of the manifest, or of `--allow`. */
export interface OutboundRule {
  host: { name: string } | { address: string };
  protocol: 'tcp' | 'udp';
  port: number;
}

/** Where a task may connect to. Ranges of the host's own network are refused in either case, unless a rule has the address. */
export type OutboundPolicy =
  | { unrestricted: true; rules: readonly OutboundRule[] }
  | { unrestricted: false; rules: readonly OutboundRule[] };

/** A port of the VM that is reachable on the host. */
export interface PublishedPort {
  protocol: 'tcp' | 'udp';
  /** Numeric; default all addresses of the host. */
  hostAddress?: string;
  hostPort: number;
  guestPort: number;
}

/** Addresses of the guest's outbound network (design.md 11, runtime-vm.md 7.3); one table for guest, filter and passt. */
export const INET = {
  guest: '10.42.42.2',
  gateway: '10.42.42.1',
  prefix: 24,
  guest6: 'fd42:42:42::2',
  gateway6: 'fd42:42:42::1',
  prefix6: 64,
  guestMac: '90:13:0a:2a:2a:02',
  gatewayMac: 'a0:13:0a:2a:2a:01',
} as const;

/** What the filter of one activity needs; crosses to the worker as it is. */
export interface OutboundSetup {
  policy: OutboundPolicy;
  /** The filter's end of the guest's cable: a stream. Taken over. */
  nic: { kind: 'stream'; fd: number };
  /** The filter's end of the way out: a stream to passt, or to QEMU's user network. Taken over. */
  upstream: { fd: number };
  /** Where the resolver is that the guest may ask; both are the gateway's under passt. */
  dns: { ipv4: string; ipv6: string | null };
  /** Whether there is a way out for IPv6. */
  ipv6: boolean;
  published: readonly PublishedPort[];
  /** The way out is a passt with faults that the filter makes up for; see outbound/half-closed.ts, outbound/patience.ts. */
  mendsOldPasst?: boolean;
}

export interface Refusal {
  /** `tcp 93.184.216.34:443`. */
  destination: string;
  /** A name that the guest had resolved to it, when it is known. */
  name?: string;
  reason: string;
  count: number;
}

export interface OutboundStats {
  nic: NicCounters;
  upstream: 'passt' | 'qemu';
  /** Connections and exchanges under way. */
  flows: number;
  /** Addresses that are allowed because of a name, now. */
  resolved: number;
  refusals: Refusal[];
  dropped: Dropped;
  /** How often passt was started anew. */
  restarts: number;
}

// ---------------------------------------------------------------- both

export interface NetworkStats {
  vpn: VpnStats | null;
  outbound: OutboundStats | null;
}

/** One answered echo request, milliseconds. */
export interface PingReply {
  milliseconds: number;
}
