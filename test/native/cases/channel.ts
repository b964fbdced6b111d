/** Channels: frames of JavaScript, limits, ends, and what callbacks may do. */
import { encodeFrame, FRAME_HEADER, FrameType } from '../../../guest/protocol/frames.ts';
import type { Case } from '../harness.ts';
import { link, MAX_PAYLOAD, outcomes } from '../peer.ts';
import { bytes, isPattern, O_CREAT, O_RDWR, pattern, sleep, text, until, withFolder } from '../tools.ts';

export const channelCases: Case[] = [
  {
    name: 'channel: frames both ways, of every size up to the largest',
    async run(native, assert) {
      const { channel, peer, frames, close } = link(native);
      let intact = 0;
      peer.onFrame = (_type, _stream, payload) => {
        if (isPattern(payload, 7)) intact++;
      };
      const sizes = [0, 1, 2, 4095, 4096, 65_535, 65_536, 131_072, MAX_PAYLOAD - 1, MAX_PAYLOAD];
      for (const [index, size] of sizes.entries()) {
        native.channelSend(channel, FrameType.message, index, pattern(7, size));
        peer.send(FrameType.log, 2 ** 32 - 1 - index, pattern(7, size));
        await until(`size ${size}`, () => frames.length > index && peer.frames.length > index);
      }
      assert.equal(
        peer.frames,
        sizes.map((size, stream) => ({ type: FrameType.message, stream, size })),
        'to the peer',
      );
      assert.equal(intact, sizes.length, 'content');
      assert.equal(
        frames.map(({ type, stream, payload }) => [type, stream, payload.length, isPattern(payload, 7)]),
        sizes.map((size, index) => [FrameType.log, 2 ** 32 - 1 - index, size, true]),
        'from the peer',
      );
      close();
    },
  },
  {
    name: 'channel: frames cut anywhere, byte by byte, and many in one piece',
    async run(native, assert) {
      const { peer, frames, close } = link(native);
      const whole = new Uint8Array(3 * (FRAME_HEADER + 5));
      for (let index = 0; index < 3; index++) {
        whole.set(encodeFrame(FrameType.message, index, bytes(`body${index}`)), index * (FRAME_HEADER + 5));
      }
      for (const byte of whole) {
        peer.write(Uint8Array.of(byte));
        await sleep(0);
      }
      await until('three frames', () => frames.length === 3);
      peer.write(whole);
      await until('three more', () => frames.length === 6);
      assert.equal(
        frames.map((frame) => `${frame.stream}:${text(frame.payload)}`),
        ['0:body0', '1:body1', '2:body2', '0:body0', '1:body1', '2:body2'],
        'payloads',
      );
      close();
    },
  },
  {
    name: 'channel: a payload belongs to JavaScript',
    async run(native, assert) {
      const { peer, frames, close } = link(native);
      peer.send(FrameType.message, 1, bytes('first'));
      await until('first', () => frames.length === 1);
      peer.send(FrameType.message, 2, bytes('other'));
      await until('second', () => frames.length === 2);
      const [first, second] = frames.map((frame) => frame.payload) as [Uint8Array, Uint8Array];
      assert.equal(text(first), 'first', 'unchanged');
      first.fill(0);
      assert.equal(text(second), 'other', 'not shared');
      close();
    },
  },
  {
    name: 'channel: the queue has a bound, and empties in order',
    async run(native, assert) {
      const { channel, peer, close } = link(native, { maxQueued: 300_000 });
      peer.read(false);
      let sent = 0;
      assert.fails(
        () => {
          for (; sent < 1000; sent++)
            native.channelSend(channel, FrameType.message, sent, pattern(sent, 50_000));
        },
        { code: 'ENOBUFS', syscall: 'channelSend' },
        'a peer that does not read',
      );
      const queued = native.channelQueued(channel);
      assert.ok(queued > 0 && queued <= 300_000, `${queued} bytes are queued`);
      let order = 0;
      peer.onFrame = (_type, stream, payload) => {
        if (stream === order && isPattern(payload, stream)) order++;
      };
      peer.read(true);
      await until('all', () => peer.frames.length === sent);
      assert.equal(order, sent, 'in order and intact');
      assert.equal(native.channelQueued(channel), 0, 'empty');
      native.channelSend(channel, FrameType.message, 9, bytes('again'));
      await until('one more', () => peer.frames.length === sent + 1);
      assert.fails(
        () => native.channelSend(channel, FrameType.message, 0, new Uint8Array(MAX_PAYLOAD + 1)),
        { code: 'EMSGSIZE' },
        'too large for the peer',
      );
      close();
    },
  },
  {
    name: 'channel: lengths that cannot be end it as "protocol", once, and nothing is read after that',
    async run(native, assert) {
      const header = (length: number) => {
        const frame = new Uint8Array(16);
        new DataView(frame.buffer).setUint32(0, length, true);
        frame[4] = FrameType.message;
        return frame;
      };
      for (const length of [0, 4, MAX_PAYLOAD + 6, 2 ** 31, 2 ** 32 - 1]) {
        const { peer, frames, ends, channel, close } = link(native);
        peer.send(FrameType.message, 1, bytes('fine'));
        peer.write(header(length));
        peer.send(FrameType.message, 1, bytes('lost'));
        await until(`length ${length}`, () => ends.length > 0);
        await sleep(5);
        assert.equal([frames.length, ends.length, ends[0]?.reason], [1, 1, 'protocol'], `length ${length}`);
        assert.ok(ends[0]?.message.includes(String(length)), ends[0]?.message ?? '');
        assert.fails(
          () => native.channelSend(channel, 1, 0, bytes('x')),
          { code: 'EPIPE' },
          'sending after the end',
        );
        close();
      }
    },
  },
  {
    name: 'channel: END with a payload and CREDIT without four bytes are "protocol"',
    async run(native, assert) {
      for (const [type, size] of [
        [FrameType.end, 1],
        [FrameType.credit, 3],
        [FrameType.credit, 5],
        [FrameType.credit, 0],
      ] as const) {
        const { peer, ends, close } = link(native);
        peer.send(type, 77, new Uint8Array(size));
        await until('the end', () => ends.length > 0);
        assert.equal(ends[0]?.reason, 'protocol', `type ${type} of ${size} bytes`);
        close();
      }
    },
  },
  {
    name: 'channel: late frames of streams that nobody has are dropped',
    async run(native, assert) {
      const { peer, frames, ends, close } = link(native);
      peer.send(FrameType.data, 5, pattern(0, 200_000));
      peer.send(FrameType.end, 5, new Uint8Array(0));
      peer.credit(5, 1000);
      peer.send(FrameType.data, 5, new Uint8Array(0));
      peer.send(FrameType.message, 0, bytes('after'));
      await until('the message', () => frames.length === 1);
      assert.equal(
        [frames[0]?.type, ends.length, peer.frames.length],
        [FrameType.message, 0, 0],
        'only the message',
      );
      close();
    },
  },
  {
    name: 'channel: the peer closing is told once, with or without half a frame',
    async run(native, assert) {
      for (const half of [false, true]) {
        const { peer, ends, frames, close } = link(native);
        peer.send(FrameType.message, 3, bytes('last'));
        if (half) peer.write(encodeFrame(FrameType.message, 3, pattern(0, 100)).subarray(0, 50));
        await until('written', () => peer.idle);
        peer.close();
        await until('the end', () => ends.length > 0);
        await sleep(10);
        assert.equal([ends.length, ends[0]?.reason, frames.length], [1, 'closed', 1], `half ${half}`);
        assert.equal(/inside a frame/.test(ends[0]?.message ?? ''), half, ends[0]?.message ?? '');
        close();
      }
    },
  },
  {
    name: 'channel: closing is silent, ends its streams, and can be repeated',
    async run(native, assert) {
      const { channel, peer, ends, close } = link(native);
      const [output, feeder] = native.pipe('both', 0);
      const [drain, input] = native.pipe('both', 0);
      const { list, note } = outcomes();
      const source = native.sourceOpen(channel, 1, output, 1000, note);
      const sink = native.sinkOpen(channel, 2, input, 1000, -1, note);
      native.channelClose(channel);
      assert.equal(list, [], 'nothing is called from inside a call');
      await until('both ends', () => list.length === 2);
      await until('the peer sees it', () => peer.closed);
      assert.equal(
        list,
        [
          { total: 0, code: 'ECANCELED' },
          { total: 0, code: 'ECANCELED' },
        ],
        'outcomes',
      );
      native.channelClose(channel);
      native.sourceStop(source);
      native.sinkStop(sink);
      assert.fails(() => native.sourceSent(source), { code: 'EBADF' }, 'an ended source');
      assert.fails(() => native.channelQueued(channel), { code: 'EBADF' }, 'a closed channel');
      assert.fails(() => native.channelSend(channel, 1, 1, bytes('x')), { code: 'EBADF' }, 'sending');
      assert.equal(ends, [], 'no onEnd');
      native.close(feeder);
      native.close(drain);
      close();
    },
  },
  {
    name: 'channel: callbacks may close the channel, stop streams and open new ones',
    async run(native, assert) {
      const seen: string[] = [];
      let channel = 0;
      const first = link(native, {
        onFrame: (_type, stream) => {
          seen.push(`frame ${stream}`);
          native.channelClose(channel);
          const next = link(native, {
            onFrame: () => {
              seen.push('second channel');
              next.close();
            },
          });
          next.peer.send(FrameType.message, 0, bytes('x'));
        },
      });
      channel = first.channel;
      for (let stream = 0; stream < 5; stream++) first.peer.send(FrameType.message, stream, bytes('x'));
      await until('the second channel', () => seen.length >= 2);
      await sleep(10);
      assert.equal(seen, ['frame 0', 'second channel'], 'no frame after close');
      first.close();
    },
  },
  {
    name: 'channel: streams are one of a kind, and wrong descriptors stay the caller’s',
    run: (native, assert) =>
      withFolder(native, async (folder) => {
        const { channel, close } = link(native);
        const file = native.open(`${folder}/f`, O_RDWR | O_CREAT, 0o600);
        const [reader, writer] = native.pipe('both', 0);
        const { list, note } = outcomes();
        native.sourceOpen(channel, 1, reader, 0, note);
        native.sinkOpen(channel, 1, writer, 10, -1, note);
        assert.fails(
          () => native.sourceOpen(channel, 1, file, 0, note),
          { code: 'EEXIST' },
          'a second source',
        );
        assert.fails(
          () => native.sinkOpen(channel, 1, file, 10, -1, note),
          { code: 'EEXIST' },
          'a second sink',
        );
        assert.fails(
          () => native.sourceOpen(channel, 2, 99_999, 0, note),
          { code: 'EBADF' },
          'a closed descriptor',
        );
        assert.fails(
          () => native.sinkOpen(channel, 2, 99_999, 10, -1, note),
          { code: 'EBADF' },
          'closed too',
        );
        assert.fails(() => native.sourceOpen(9999, 2, file, 0, note), { code: 'EBADF' }, 'no channel');
        const options = { maxPayload: 10, maxQueued: 10, onFrame: () => {}, onEnd: () => {} };
        assert.fails(() => native.channelOpen(file, options), { code: 'EPERM' }, 'a file is no channel');
        assert.ok(native.fstat(file).size === 0, 'still open');
        native.close(file);
        close();
        await until('both ends', () => list.length === 2);
      }),
  },
];
