/** A VM as far as its siblings see it: what it was told, and what came for its NIC. */
import { setTimeout as wait } from 'node:timers/promises';
import { type Logger, silentLogger } from '../../host/lib/logger.ts';
import { parseIp } from '../../host/network/frame/address.ts';
import { type AddressKey, keyOfAddress } from '../../host/network/vpn/address-key.ts';
import { openSiblingsWith, RETRY } from '../../host/network/vpn/siblings.ts';
import type {
  SiblingRole,
  Siblings,
  SiblingsSetup,
  TableChange,
  Timers,
} from '../../host/network/vpn/siblings-face.ts';
import { loadNative } from '../../native/load.ts';

const native = loadNative();

/** What all are in, unless a test says otherwise. */
export const NETWORK = {
  nodeId: `0x${'1'.repeat(40)}`,
  requestorId: `0x${'2'.repeat(40)}`,
  networkId: 'network',
};

export interface SiblingOptions extends Partial<SiblingsSetup> {
  logger?: Logger;
}

export interface TestSibling {
  siblings: Siblings;
  roles: SiblingRole[];
  frames: Uint8Array[];
  changes: TableChange[];
  /** Times that it looked for the lock or the owner again. */
  polls: number;
  send(to: string, frame: Uint8Array): boolean;
  broadcast(frame: Uint8Array): void;
}

export const keyOf = (address: string): AddressKey => keyOfAddress(parseIp(address));

export function openSibling(
  folder: string,
  address: string | string[],
  options: SiblingOptions = {},
): TestSibling {
  const { logger = silentLogger, ...setup } = options;
  const timers: Timers = {
    after(delay, run) {
      // Attempts are counted, not timed; what is longer is a deadline.
      const timer = setTimeout(() => {
        if (delay === RETRY) sibling.polls++;
        run();
      }, delay);
      return () => clearTimeout(timer);
    },
  };
  const sibling: TestSibling = {
    siblings: openSiblingsWith(
      {
        folder,
        ...NETWORK,
        addresses: [address].flat(),
        ...setup,
      },
      {
        onRole: (role) => sibling.roles.push(role),
        onFrame: (bytes, offset, length) =>
          sibling.frames.push(Uint8Array.from(bytes.subarray(offset, offset + length))),
        onChange: (change) => sibling.changes.push(change),
        onLocal: () => {},
      },
      logger,
      { native, timers },
    ),
    roles: [],
    frames: [],
    changes: [],
    polls: 0,
    send: (to, frame) => sibling.siblings.send(keyOf(to), frame, 0, frame.length),
    broadcast: (frame) => sibling.siblings.broadcast(frame, 0, frame.length),
  };
  return sibling;
}

/** Waits for what comes over sockets, a minute at most. @throws Error with `what` */
export async function until(condition: () => boolean, what: string): Promise<void> {
  const end = performance.now() + 60_000;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`waited in vain for ${what}`);
    await wait(2);
  }
}
