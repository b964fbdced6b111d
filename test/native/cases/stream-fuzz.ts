/** Any bytes into a channel with sources and sinks on it: no crash, one end at most, bounded memory. */
import { encodeCredit, encodeFrame, FrameType } from '../../../guest/protocol/frames.ts';
import { Random } from '../../lib/random.ts';
import type { Case } from '../harness.ts';
import { link, outcomes } from '../peer.ts';
import { readFile, sleep, until } from '../tools.ts';

/** Fixed, so that a failure is the same everywhere; a soak goes on from there. */
const SEED = 20_261_125;
const STREAMS = 6;

/** A frame that may be anything: right, wrong in one place, or noise. */
function anyFrame(random: Random): Uint8Array {
  const stream = random.chance(4) ? random.next() : random.between(0, STREAMS);
  const payload = random.bytes(random.chance(10) ? random.between(0, 3000) : random.between(0, 40));
  const kinds = [
    () => encodeFrame(FrameType.data, stream, payload),
    () => encodeFrame(FrameType.data, stream, payload),
    () => encodeCredit(stream, random.chance(3) ? 0xffffffff : random.between(0, 5000)),
    () => encodeFrame(FrameType.end, stream, new Uint8Array(0)),
    () => encodeFrame(random.between(0, 256), stream, payload),
  ];
  const frame = random.pick(kinds)();
  return random.chance(12) ? random.mutate(frame) : frame;
}

function resident(native: Parameters<Case['run']>[0]): number {
  return Number(readFile(native, '/proc/self/status').match(/VmRSS:\s*(\d+)/)?.[1]) * 1024;
}

export const fuzzCases: Case[] = [
  {
    name: 'fuzz: frames right and wrong, cut anywhere',
    async run(native, assert) {
      const rounds = assert.soak ? 5000 : 150;
      const reasons = { closed: 0, protocol: 0, error: 0 };
      let delivered = 0;
      for (let round = 0; round < rounds; round++) {
        const random = new Random(SEED + round);
        const { channel, peer, ends, frames, close } = link(native, { maxPayload: 4096, maxQueued: 10_000 });
        const { list, note } = outcomes();
        const others: number[] = [];
        for (let stream = 0; stream < STREAMS; stream++) {
          const [reader, writer] = native.pipe('both', 4096);
          const [drain, input] = native.pipe('both', 4096);
          native.sourceOpen(channel, stream, reader, random.between(0, 2000), note);
          native.sinkOpen(channel, stream, input, random.between(1, 2000), random.chance(3) ? 4 : -1, note);
          native.write(writer, random.bytes(random.between(1, 4000)));
          others.push(writer, drain);
        }
        for (let count = random.between(1, 60); count > 0; count--) peer.write(anyFrame(random));
        await until('all is written', () => peer.idle || peer.closed || ends.length > 0);
        // Sometimes it has read all before it is closed, sometimes not.
        if (!random.chance(3)) await sleep(2);
        if (random.chance(2)) native.channelClose(channel);
        peer.close();
        await until(`seed ${SEED + round}: every stream ends`, () => list.length === 2 * STREAMS);
        assert.ok(ends.length <= 1, `seed ${SEED + round}: one end at most`);
        for (const { reason } of ends) reasons[reason as keyof typeof reasons]++;
        delivered += frames.length;
        for (const fd of others) native.close(fd);
        close();
      }
      assert.ok(reasons.protocol > 0 && reasons.closed > 0, `ends: ${JSON.stringify(reasons)}`);
      assert.ok(delivered > 0, 'some frames were right');
    },
  },
  {
    name: 'fuzz: noise',
    async run(native, assert) {
      const rounds = assert.soak ? 5000 : 200;
      const before = resident(native);
      for (let round = 0; round < rounds; round++) {
        const random = new Random(SEED * 2 + round);
        const { peer, ends, close } = link(native);
        peer.write(random.bytes(random.between(4, 5000)));
        await until('written', () => peer.idle);
        peer.close();
        await until(`seed ${SEED * 2 + round}: it ends`, () => ends.length === 1);
        close();
      }
      assert.ok(resident(native) - before < 64 << 20, `${resident(native) - before} bytes more`);
    },
  },
  {
    name: 'fuzz: a peer that announces the largest frames and never sends them',
    async run(native, assert) {
      const before = resident(native);
      const links = Array.from({ length: 20 }, () => link(native, { maxPayload: 16 << 20 }));
      for (const { peer } of links) {
        const header = new Uint8Array(9);
        new DataView(header.buffer).setUint32(0, (16 << 20) + 5, true);
        header[4] = FrameType.message;
        for (let index = 0; index < 5; index++) peer.write(header);
      }
      await until('written', () => links.every(({ peer }) => peer.idle));
      await until('settled', () => true);
      const more = resident(native) - before;
      assert.ok(more < 32 << 20, `${more} bytes resident for what has not come`);
      for (const { close } of links) close();
    },
  },
];
