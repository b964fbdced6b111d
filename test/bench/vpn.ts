/**
 * Two VMs in a VPN, through two relays and a router, against two VMs whose NICs are joined by a socket: same QEMU, kernel
 * and MTU. All four are up all the time, two of them idle, so each round compares under the same conditions.
 */

import { vpnLink } from '../../host/network/guest-links.ts';
import { loadNative } from '../../native/load.ts';
import { putGuestNet } from '../lib/guest-net.ts';
import { type Owner, shell, startTestVm } from '../lib/vm.ts';
import { addressOf, VpnLab } from '../lib/vpn-vms.ts';
import type { Bench } from './context.ts';
import { type Figure, median } from './figure.ts';
import { withOwner } from './owner.ts';

const ROUNDS = 7;
const BLOCK = 64 * 1024;
const BLOCKS = 320;
const PINGS = 60;

/** One end of a pair of VMs. */
interface End {
  address: string;
  /** What a shell line prints. */
  shell(line: string): Promise<string>;
}

export const vpn: Bench = {
  name: 'vpn',
  what: `${Math.round((BLOCK * BLOCKS) / 1e6)} MB over TCP and ${PINGS} pings between two VMs of a VPN, and directly; ${ROUNDS} rounds, medians`,
  run({ accel, say }) {
    return withOwner(async (owner) => {
      const lab = new VpnLab(owner);
      const relayed = (await lab.start(1, 2)).map(
        (vm): End => ({
          address: vm.address,
          shell: async (line) => (await vm.shell(line)).stdout,
        }),
      ) as [End, End];
      const direct = await startDirect(owner, accel);
      const speeds: Record<'relayed' | 'direct', number[]> = { relayed: [], direct: [] };
      const pings: Record<'relayed' | 'direct', number[]> = { relayed: [], direct: [] };
      for (let round = -1; round < ROUNDS; round++) {
        for (const [name, pair] of Object.entries({ relayed, direct }) as [
          'relayed' | 'direct',
          [End, End],
        ][]) {
          const speed = await transfer(pair);
          const times = await ping(pair);
          // The first round warms up.
          if (round < 0) continue;
          speeds[name].push(speed);
          pings[name].push(...times);
        }
        say(
          `round ${round + 1}: ${speeds.relayed.at(-1)?.toFixed(1)} and ${speeds.direct.at(-1)?.toFixed(1)} MB/s`,
        );
      }
      return figuresOf(speeds, pings);
    });
  },
};

function figuresOf(
  speeds: Record<'relayed' | 'direct', number[]>,
  pings: Record<'relayed' | 'direct', number[]>,
): Figure[] {
  const [far, near] = [median(pings.relayed), median(pings.direct)];
  return [
    {
      what: 'TCP: VPN ÷ direct',
      value: median(speeds.relayed.map((speed, round) => speed / (speeds.direct[round] as number))),
      unit: '×',
      limit: { atLeast: 0.5 },
    },
    { what: 'TCP: VPN', value: median(speeds.relayed), unit: 'MB/s' },
    { what: 'TCP: direct', value: median(speeds.direct), unit: 'MB/s' },
    { what: 'ping p50: VPN − direct', value: far - near, unit: 'ms', aim: { atMost: 1.5 } },
    { what: 'ping p50: VPN', value: far, unit: 'ms' },
    { what: 'ping p50: direct', value: near, unit: 'ms' },
  ];
}

/** Both NICs on one TCP socket, as `-netdev socket,listen` and `connect` have it. */
async function startDirect(owner: Owner, accel: 'tcg' | 'kvm'): Promise<[End, End]> {
  const native = loadNative();
  const [near, far] = native.cable('tcp', 1024 * 1024);
  const start = async (number: number, fd: number): Promise<End> => {
    const network = { links: [vpnLink([{ nodeIp: addressOf(number), prefix: 24 }])] };
    const vm = await startTestVm(owner, { accel, network }, { nics: [{ kind: 'stream', fd }] });
    await putGuestNet(vm);
    return {
      address: addressOf(number),
      shell: (line) => shell(vm, line),
    };
  };
  return [await start(1, near), await start(2, far)];
}

/** From the sender's start to the receiver's end. @returns MB/s */
async function transfer([from, to]: [End, End]): Promise<number> {
  const receiving = to.shell('guest-net take 7000 | wc -c');
  const began = performance.now();
  const sending = from.shell(
    `dd if=/dev/zero bs=${BLOCK} count=${BLOCKS} 2>/dev/null | guest-net give ${to.address} 7000`,
  );
  const [got] = await Promise.all([receiving, sending]);
  const took = performance.now() - began;
  if (Number(got) !== BLOCK * BLOCKS) throw new Error(`${got.trim()} bytes came, not ${BLOCK * BLOCKS}`);
  return (BLOCK * BLOCKS) / 1e6 / (took / 1000);
}

/** @returns milliseconds each */
async function ping([from, to]: [End, End]): Promise<number[]> {
  const text = await from.shell(`ping -c ${PINGS} -i 0.02 ${to.address}`);
  return [...text.matchAll(/time=([\d.]+) ms/g)].map(([, time]) => Number(time));
}
