/** The other VMs of this host in one network of one requestor, as the relay sees them; implemented by siblings.ts. */
import type { Logger } from '../../lib/logger.ts';
import type { AddressKey } from './address-key.ts';

/** A change of the network's table: what VpnControl, or a frame, told whoever holds the names. Node ids by address. */
export type TableChange =
  | { kind: 'add'; nodes: Readonly<Record<string, string>> }
  /** From frames: what the requestor says wins over it. */
  | { kind: 'learn'; nodes: Readonly<Record<string, string>> }
  | { kind: 'remove'; nodeIds: readonly string[] };

export type SiblingRole = 'owner' | 'sibling' | 'waiting';

export interface SiblingsSetup {
  /** Folder of this user alone (0700) for the lock and the socket. */
  folder: string;
  nodeId: string;
  requestorId: string;
  networkId: string;
  /** This VM's addresses in the network, canonical text. */
  addresses: readonly string[];
}

export interface SiblingsEvents {
  /** Called at the first decision, and at each change: an `owner` binds the network's names, and nobody else does. */
  onRole(role: SiblingRole): void;
  /** A frame for this VM's NIC, from another VM here or, for a sibling, from the bus by way of the owner. Valid until it returns. */
  onFrame(bytes: Uint8Array, offset: number, length: number): void;
  /** For a sibling: the owner was told. */
  onChange(change: TableChange): void;
  /** Addresses of VMs here came or went. */
  onLocal(): void;
}

export interface Siblings {
  readonly role: SiblingRole;
  /** Addresses of the other VMs here, canonical text. */
  readonly local: ReadonlySet<string>;
  readonly dropped: Readonly<SiblingDrops>;
  /** Whether another VM here has this address. */
  has(key: AddressKey): boolean;
  /** To the VM here that has the address: directly (owner), or by way of the owner. False: nobody here has it, or there was no room. */
  send(key: AddressKey, bytes: Uint8Array, offset: number, length: number): boolean;
  /** To all other VMs here. A frame that came from one of them does not go back there; the owner's side sees to that. */
  broadcast(bytes: Uint8Array, offset: number, length: number): void;
  /** What was queued goes out; also by itself at the end of the event loop's turn. */
  flush(): void;
  /** For an owner: tells the siblings. */
  change(change: TableChange): void;
  /** Leaves; the next one may own. */
  close(): Promise<void>;
}

/** Frames between VMs here that went nowhere. */
export interface SiblingDrops {
  /** A sibling does not take them as fast as they come. */
  room: number;
  /** Their source is no address of the sibling that sent them. */
  source: number;
  /** Nobody here has the address, any more. */
  gone: number;
}

/** Time as siblings need it. */
export interface Timers {
  /** Calls `run` once, after `delay` milliseconds. @returns how to forget it */
  after(delay: number, run: () => void): () => void;
}

/** Begins to take part; never rejects: what goes wrong is logged, and tried again. */
export type OpenSiblings = (setup: SiblingsSetup, events: SiblingsEvents, logger: Logger) => Siblings;
