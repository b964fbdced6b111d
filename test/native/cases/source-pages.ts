/** Sources whose pipe is full: what they send are its pages, not copies. */
import { FrameType } from '../../../guest/protocol/frames.ts';
import type { Case } from '../harness.ts';
import { link, MAX_PAYLOAD, outcomes, Peer } from '../peer.ts';
import { isPattern, O_APPEND, O_NOCTTY, O_RDWR, pattern, sleep, until } from '../tools.ts';

export const sourcePagesCases: Case[] = [
  {
    name: 'source: a large output begins in whole 32 KiB writes, and goes on as pages, in the largest frames',
    async run(native, assert) {
      const { channel, peer, close } = link(native);
      const { list, note } = outcomes();
      const [reader, writer] = native.pipe('none', 1024 * 1024);
      let received = 0;
      let intact = true;
      peer.onFrame = (_type, _stream, payload) => {
        intact &&= isPattern(payload, received);
        received += payload.length;
      };
      for (let at = 0; at < 1024 * 1024; at += 65_536) native.write(writer, pattern(at, 65_536));
      native.close(writer);
      native.sourceOpen(channel, 1, reader, 2 ** 32 - 1, note);
      await until('the end', () => peer.hasEnded(1) && list.length === 1);
      const sizes = peer.of(FrameType.data, 1).map((frame) => frame.size);
      assert.equal(sizes[0], 131_063, 'with its header, four units');
      assert.equal(sizes[1], 252 * 1024, 'pages');
      assert.equal([received, intact], [1024 * 1024, true], 'all of it');
      close();
    },
  },
  {
    name: 'source: a command that reads its own output back takes from itself only',
    async run(native, assert) {
      const { channel, peer, close } = link(native);
      const { list, note } = outcomes();
      const [reader, writer] = native.pipe('both', 0);
      const thief = native.dup(reader);
      const stolen = new Uint8Array(4096);
      const block = new Uint8Array(65_536);
      let written = 0;
      let taken = 0;
      native.sourceOpen(channel, 1, reader, 2 ** 32 - 1, note);
      while (written < 8 * 1024 * 1024) {
        const count = native.write(writer, block);
        if (count > 0) written += count;
        taken += Math.max(0, native.read(thief, stolen));
        await sleep(0);
      }
      native.close(thief);
      native.close(writer);
      await until('the end', () => peer.hasEnded(1) && list.length === 1);
      assert.ok(taken > 0, 'something was taken');
      assert.equal(peer.received(1), written - taken, 'the rest came, in frames');
      close();
    },
  },
  {
    name: 'source: a channel that takes no pages gets copies',
    async run(native, assert) {
      const [master, slave] = native.openPty(25, 80);
      // splice(2) refuses a descriptor for appending.
      const channel = native.channelOpen(
        native.open(`/proc/self/fd/${slave}`, O_RDWR | O_APPEND | O_NOCTTY, 0),
        {
          maxPayload: MAX_PAYLOAD,
          maxQueued: 0,
          onFrame: () => {},
          onEnd: () => {},
        },
      );
      const peer = new Peer(native, master);
      const { list, note } = outcomes();
      const [reader, writer] = native.pipe('none', 1024 * 1024);
      let received = 0;
      let intact = true;
      peer.onFrame = (_type, _stream, payload) => {
        intact &&= payload.every((byte, at) => byte === 32 + ((received + at) % 64));
        received += payload.length;
      };
      // Nothing that a terminal makes something else of.
      native.write(
        writer,
        Uint8Array.from({ length: 1_000_000 }, (_, at) => 32 + (at % 64)),
      );
      native.close(writer);
      native.sourceOpen(channel, 3, reader, 2 ** 32 - 1, note);
      await until('the end', () => peer.hasEnded(3) && list.length === 1);
      assert.equal([received, intact], [1_000_000, true], 'all of it');
      assert.ok(
        peer.of(FrameType.data, 3).some((frame) => frame.size === 252 * 1024),
        'in frames meant for pages',
      );
      native.channelClose(channel);
      peer.close();
      native.close(slave);
    },
  },
];
