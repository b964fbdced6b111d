/** Streams under load: much data, slow readers, many at once. */
import { FrameType } from '../../../guest/protocol/frames.ts';
import type { Case } from '../harness.ts';
import { link, MAX_PAYLOAD, outcomes } from '../peer.ts';
import { bytes, feed, isPattern, pattern, sleep, until } from '../tools.ts';

const WINDOW = 256 * 1024;

export const loadCases: Case[] = [
  {
    name: 'load: 50 MB through a source, byte-exact',
    async run(native, assert) {
      const size = 50_000_000;
      const { channel, peer, close } = link(native);
      const { list, note } = outcomes();
      let received = 0;
      let intact = true;
      let owed = 0;
      peer.onFrame = (type, _stream, payload) => {
        if (type !== FrameType.data) return;
        intact &&= isPattern(payload, received);
        received += payload.length;
        owed += payload.length;
        if (owed < WINDOW / 4) return;
        peer.credit(1, owed);
        owed = 0;
      };
      const [reader, writer] = native.pipe('none', 1024 * 1024);
      native.sourceOpen(channel, 1, reader, WINDOW, note);
      const fed = feed(native, writer, size);
      await until('the end', () => peer.hasEnded(1) && list.length === 1, 50_000);
      await fed;
      assert.equal([received, intact, list[0]], [size, true, { total: size, code: null }], 'all of it');
      const crumbs = peer.of(FrameType.data, 1).filter((frame) => frame.size < 4096).length;
      assert.ok(crumbs < 10, `${crumbs} frames of less than 4 KiB`);
      close();
    },
  },
  {
    name: 'load: 50 MB through a sink, byte-exact',
    async run(native, assert) {
      const size = 50_000_000;
      const { channel, peer, close } = link(native);
      const { list, note } = outcomes();
      let credit = WINDOW;
      let sent = 0;
      const push = () => {
        while (sent < size && credit > 0) {
          const count = Math.min(credit, size - sent, 100_000);
          peer.send(FrameType.data, 1, pattern(sent, count));
          credit -= count;
          sent += count;
        }
        if (sent === size) peer.send(FrameType.end, 1, new Uint8Array(0));
      };
      peer.onFrame = (type, _stream, payload) => {
        if (type !== FrameType.credit) return;
        credit += new DataView(payload.buffer, payload.byteOffset, 4).getUint32(0, true);
        if (sent < size) push();
      };
      const [reader, writer] = native.pipe('both', 1024 * 1024);
      native.sinkOpen(channel, 1, writer, WINDOW, -1, note);
      let received = 0;
      let intact = true;
      const buffer = new Uint8Array(256 * 1024);
      push();
      await new Promise<void>((resolve) => {
        native.watch(reader, 1, () => {
          const count = native.read(reader, buffer);
          if (count < 0) return;
          if (count === 0) {
            native.unwatch(reader);
            return resolve();
          }
          intact &&= isPattern(buffer.subarray(0, count), received);
          received += count;
        });
      });
      await until('the outcome', () => list.length === 1);
      assert.equal([received, intact, list[0]], [size, true, { total: size, code: null }], 'all of it');
      native.close(reader);
      close();
    },
  },
  {
    name: 'load: a peer that does not read stops the writer, within bounds, and messages still queue',
    async run(native, assert) {
      const { channel, peer, close } = link(native);
      const { list, note } = outcomes();
      peer.read(false);
      const [reader, writer] = native.pipe('both', 65_536);
      native.sourceOpen(channel, 1, reader, 2 ** 32 - 1, note);
      let accepted = 0;
      for (let still = 0; still < 20; ) {
        const count = native.write(writer, pattern(accepted, 65_536));
        if (count > 0) accepted += count;
        still = count > 0 ? 0 : still + 1;
        await sleep(1);
      }
      // The socket's buffer (2 MiB as the kernel counts), one bulk frame and the grown pipe: not the whole credit.
      assert.ok(accepted < 4 * 1024 * 1024, `${accepted} bytes were taken in`);
      assert.ok(
        native.channelQueued(channel) <= MAX_PAYLOAD,
        `${native.channelQueued(channel)} bytes queued`,
      );
      native.channelSend(channel, FrameType.message, 0, bytes('control'));
      native.close(writer);
      let received = 0;
      let intact = true;
      let before = -1;
      peer.onFrame = (type, _stream, payload) => {
        if (type === FrameType.message) before = received;
        if (type !== FrameType.data) return;
        intact &&= isPattern(payload, received);
        received += payload.length;
      };
      peer.read(true);
      await until('the end', () => peer.hasEnded(1) && list.length === 1);
      assert.equal([received, intact], [accepted, true], 'nothing is lost');
      assert.ok(before >= 0 && before < accepted, `the message came after ${before} of ${accepted} bytes`);
      close();
    },
  },
  {
    name: 'load: one reader without credit stops only its own stream',
    async run(native, assert) {
      const { channel, peer, close } = link(native);
      const { list, note } = outcomes();
      peer.onFrame = (type, stream, payload) => {
        if (type === FrameType.data && stream === 2) peer.credit(2, payload.length);
      };
      const [slow, slowWriter] = native.pipe('none', 0);
      const [fast, fastWriter] = native.pipe('none', 0);
      native.sourceOpen(channel, 1, slow, 50_000, note);
      native.sourceOpen(channel, 2, fast, 50_000, note);
      const blocked = feed(native, slowWriter, 500_000);
      await feed(native, fastWriter, 5_000_000);
      await until('the fast one', () => peer.hasEnded(2));
      assert.equal(peer.received(2), 5_000_000, 'all of the fast one');
      assert.ok(peer.received(1) <= 50_000 && !peer.hasEnded(1), `${peer.received(1)} bytes of the slow one`);
      peer.credit(1, 1_000_000);
      await blocked;
      await until('the slow one', () => peer.hasEnded(1) && list.length === 2);
      assert.equal(peer.received(1), 500_000, 'all of the slow one');
      close();
    },
  },
  {
    name: 'load: many streams both ways at once, each in order',
    async run(native, assert) {
      const count = 32;
      const size = 300_000;
      const { channel, peer, close } = link(native);
      const { list, note } = outcomes();
      const received = new Array<number>(count).fill(0);
      let intact = true;
      const credit = new Array<number>(count).fill(0);
      const sent = new Array<number>(count).fill(0);
      const push = (stream: number) => {
        const from = sent[stream] as number;
        const amount = Math.min(credit[stream] as number, size - from);
        if (amount <= 0) return;
        peer.send(FrameType.data, stream, pattern(from + stream, amount));
        sent[stream] = from + amount;
        credit[stream] = (credit[stream] as number) - amount;
        if (sent[stream] === size) peer.send(FrameType.end, stream, new Uint8Array(0));
      };
      peer.onFrame = (type, stream, payload) => {
        if (type === FrameType.data) {
          const at = received[stream] as number;
          intact &&= isPattern(payload, at + stream);
          received[stream] = at + payload.length;
          peer.credit(stream, payload.length);
        } else if (type === FrameType.credit) {
          const view = new DataView(payload.buffer, payload.byteOffset, 4);
          credit[stream] = (credit[stream] as number) + view.getUint32(0, true);
          push(stream);
        }
      };
      // Each stream is its own echo: what the peer sends goes through a pipe back to it.
      for (let stream = 0; stream < count; stream++) {
        const [reader, writer] = native.pipe('both', 0);
        native.sinkOpen(channel, stream, writer, 16_384, -1, note);
        native.sourceOpen(channel, stream, reader, 20_000, note);
      }
      await until('all ends', () => list.length === 2 * count, 40_000);
      await until(
        'all END frames',
        () => peer.frames.filter((frame) => frame.type === FrameType.end).length === count,
      );
      assert.equal(received, new Array<number>(count).fill(size), 'sizes');
      assert.equal(
        [intact, list.every((one) => one.total === size && one.code === null)],
        [true, true],
        'content',
      );
      close();
    },
  },
  {
    name: 'load: streams are opened and ended a thousand times without a trace',
    async run(native, assert) {
      const { channel, peer, close } = link(native);
      const { list, note } = outcomes();
      const rounds = assert.soak ? 20_000 : 1000;
      for (let round = 0; round < rounds; round++) {
        const [reader, writer] = native.pipe('none', 0);
        native.sourceOpen(channel, 1, reader, 100, note);
        native.write(writer, bytes('x'));
        native.close(writer);
        const [drain, input] = native.pipe('none', 0);
        const sink = native.sinkOpen(channel, 1, input, 100, -1, note);
        if (round % 2) native.sinkStop(sink);
        else peer.send(FrameType.end, 1, new Uint8Array(0));
        if (round % 50 === 0 || round % 2 === 0)
          await until('both ends', () => list.length === 2 * (round + 1));
        else await until('both ends', () => list.length === 2 * (round + 1));
        native.close(drain);
      }
      await until('all bytes', () => peer.received(1) === rounds);
      assert.ok(
        list.every((one) => one.code === null),
        'no errors',
      );
      close();
    },
  },
];
