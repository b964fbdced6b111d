/** What other processes of this user ask of an activity's network (network.sock): `ya-vm net`. */
import type { NetworkStats, PingReply } from './types.ts';

/** Implemented by who has the network's thread; control-server.ts offers it to others, control-client.ts is the same from afar. */
export interface NetworkControl {
  stats(): Promise<NetworkStats>;
  /** An echo request as if the guest had sent it, over the NIC that leads there. @throws {YavmError} YAVM_E_NET_PING */
  ping(address: string, milliseconds: number): Promise<PingReply>;
  /**
   * Writes what all NICs see to a file (pcapng) from now on; null ends that, and resolves when the file is complete. There is
   * one capture at a time: `--pcap`'s, or that of who asks.
   * @throws {YavmError} YAVM_E_NET_CAPTURE: it cannot be written, or there is one already
   */
  capture(file: string | null): Promise<void>;
}

/** Name of the socket in the VM's run folder. */
export const NETWORK_SOCKET = 'network.sock';

export interface NetworkControlServer {
  /** Ends all clients, and what they have captured, and removes the socket. */
  close(): Promise<void>;
}
