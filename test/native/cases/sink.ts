/** Sinks: DATA frames written to pipes, files and terminals, within their window. */
import { FrameType } from '../../../guest/protocol/frames.ts';
import type { Native } from '../../../native/face.ts';
import type { Case } from '../harness.ts';
import { link, outcomes, type Peer } from '../peer.ts';
import {
  bytes,
  ended,
  isolate,
  isPattern,
  MNT_DETACH,
  needsRoot,
  O_CREAT,
  O_RDONLY,
  O_WRONLY,
  pattern,
  readFile,
  readToEnd,
  sleep,
  text,
  until,
  withFolder,
} from '../tools.ts';

const WINDOW = 256 * 1024;
const CTRL_D = 4;

/** Credit that the peer has been given on a stream. */
function credited(peer: Peer): { of(stream: number): number; forget(stream: number): void } {
  const totals = new Map<number, number>();
  peer.onFrame = (type, stream, payload) => {
    if (type !== FrameType.credit) return;
    const view = new DataView(payload.buffer, payload.byteOffset, 4);
    totals.set(stream, (totals.get(stream) ?? 0) + view.getUint32(0, true));
  };
  return {
    of: (stream) => totals.get(stream) ?? 0,
    forget: (stream) => void totals.delete(stream),
  };
}

/** Reads what is there now. */
function readNow(native: Native, fd: number, size: number): Uint8Array {
  const buffer = new Uint8Array(size);
  return buffer.subarray(0, Math.max(0, native.read(fd, buffer)));
}

export const sinkCases: Case[] = [
  {
    name: 'sink: bytes arrive in order, END closes, the total is told',
    async run(native, assert) {
      const { channel, peer, close } = link(native);
      const { list, note } = outcomes();
      const [reader, writer] = native.pipe('read', 0);
      native.sinkOpen(channel, 6, writer, WINDOW, -1, note);
      for (const word of ['one ', 'two ', '', 'three']) peer.send(FrameType.data, 6, bytes(word));
      peer.send(FrameType.end, 6, new Uint8Array(0));
      assert.equal(await readToEnd(native, reader), 'one two three', 'content');
      await until('the end', () => list.length === 1);
      assert.equal(list, [{ total: 13, code: null }], 'outcome');
      peer.send(FrameType.data, 6, bytes('late'));
      await sleep(5);
      close();
    },
  },
  {
    name: 'sink: credit comes back as the reader takes, in lumps, and never for more',
    async run(native, assert) {
      const { channel, peer, close } = link(native);
      const { list, note } = outcomes();
      const given = credited(peer);
      const [reader, writer] = native.pipe('read', 65_536);
      native.sinkOpen(channel, 2, writer, WINDOW, -1, note);
      await until('the first credit', () => given.of(2) > 0);
      assert.equal(
        [given.of(2), peer.of(FrameType.credit, 2).length],
        [WINDOW, 1],
        'the window, before any byte',
      );
      given.forget(2);
      peer.send(FrameType.data, 2, pattern(0, 100_000));
      peer.send(FrameType.data, 2, pattern(100_000, WINDOW - 100_000));
      // A pipe holds 16 pages; odd pieces leave some of them half empty.
      await until('the pipe is full', () => native.pending(reader) > 57_344);
      await sleep(20);
      assert.ok(given.of(2) <= native.pending(reader), `credit of ${given.of(2)}, for what the pipe holds`);
      let received = 0;
      let intact = true;
      while (received < WINDOW) {
        const chunk = readNow(native, reader, 50_000);
        intact &&= isPattern(chunk, received);
        received += chunk.length;
        await sleep(1);
      }
      assert.equal([intact, received], [true, WINDOW], 'content');
      await until('credit', () => given.of(2) > WINDOW * 0.75);
      assert.ok(given.of(2) <= WINDOW, `${given.of(2)} in all`);
      const lumps = peer.of(FrameType.credit, 2).length - 1;
      assert.ok(lumps > 0 && lumps <= 4, `in ${lumps} lumps of a quarter or more`);
      const before = given.of(2);
      // Small pieces, each less than a lump: one credit frame for many of them.
      for (let index = 0; index < 100; index++) peer.send(FrameType.data, 2, bytes('tiny'));
      await until('all tiny ones', () => native.pending(reader) === 400);
      assert.ok(peer.of(FrameType.credit, 2).length - 1 <= lumps + 1, 'no credit for each crumb');
      assert.ok(given.of(2) - before <= WINDOW / 2, 'nor for more than came');
      native.close(reader);
      close();
      await until('the end', () => list.length === 1);
    },
  },
  {
    name: 'sink: more than the window ends the channel as "protocol"',
    async run(native, assert) {
      for (const sizes of [[1001], [600, 401], [1000, 0, 1]]) {
        const { channel, peer, ends, close } = link(native);
        const { list, note } = outcomes();
        const [reader, writer] = native.pipe('both', 4096);
        native.write(writer, new Uint8Array(4096)); // full: nothing is taken, no credit comes
        native.sinkOpen(channel, 2, writer, 1000, -1, note);
        for (const size of sizes) peer.send(FrameType.data, 2, new Uint8Array(size));
        await until('the end', () => ends.length === 1 && list.length === 1);
        assert.equal([ends[0]?.reason, list[0]?.code], ['protocol', 'EPIPE'], sizes.join('+'));
        assert.ok(/credit/.test(ends[0]?.message ?? ''), ends[0]?.message ?? '');
        native.close(reader);
        close();
      }
    },
  },
  {
    name: 'sink: a reader that is gone is told once; later data is dropped and credited',
    async run(native, assert) {
      const { channel, peer, ends, close } = link(native);
      const { list, note } = outcomes();
      const given = credited(peer);
      const [reader, writer] = native.pipe('read', 4096);
      const sink = native.sinkOpen(channel, 2, writer, 40_000, -1, note);
      peer.send(FrameType.data, 2, new Uint8Array(10_000));
      await until('a full pipe', () => native.pending(reader) === 4096);
      native.close(reader);
      await until('the outcome', () => list.length === 1);
      assert.equal(list, [{ total: 4096, code: 'EPIPE' }], 'outcome');
      let sent = 10_000;
      for (let index = 0; index < 50; index++) {
        const size = Math.min(7777, 40_000 - sent + given.of(2));
        peer.send(FrameType.data, 2, new Uint8Array(size));
        sent += size;
        await sleep(1);
      }
      assert.ok(sent > 100_000, `${sent} bytes went on through the window`);
      assert.equal(ends, [], 'the channel goes on');
      peer.send(FrameType.end, 2, new Uint8Array(0));
      await sleep(10);
      native.sinkStop(sink);
      assert.equal(list.length, 1, 'told once');
      // The stream's number is free again.
      const [again, other] = native.pipe('read', 0);
      native.sinkOpen(channel, 2, other, 10, -1, note);
      peer.send(FrameType.data, 2, bytes('fresh'));
      await until('fresh', () => native.pending(again) === 5);
      native.close(again);
      close();
    },
  },
  {
    name: 'sink: regular files, and a full file system',
    run: (native, assert) => {
      needsRoot(native, assert);
      isolate(native, assert);
      return withFolder(native, async (folder) => {
        native.mount('none', folder, 'tmpfs', 0, 'size=64k');
        const { channel, peer, close } = link(native);
        const { list, note } = outcomes();
        const open = (name: string) => native.open(`${folder}/${name}`, O_WRONLY | O_CREAT, 0o600);
        native.sinkOpen(channel, 1, open('small'), WINDOW, -1, note);
        peer.send(FrameType.data, 1, bytes('file content'));
        peer.send(FrameType.end, 1, new Uint8Array(0));
        await until('the first', () => list.length === 1);
        assert.equal(readFile(native, `${folder}/small`), 'file content', 'content');
        native.sinkOpen(channel, 2, open('big'), WINDOW, -1, note);
        peer.send(FrameType.data, 2, new Uint8Array(100_000));
        await until('the second', () => list.length === 2);
        assert.equal(list[1]?.code, 'ENOSPC', 'no space');
        assert.ok(
          (list[1]?.total ?? 0) > 0 && (list[1]?.total ?? 0) < 100_000,
          `after ${list[1]?.total} bytes`,
        );
        assert.equal(native.stat(`${folder}/big`).size, list[1]?.total, 'as much as the total says');
        close();
        native.umount(folder, MNT_DETACH);
      });
    },
  },
  {
    name: 'sink: a program’s input and output through one channel',
    async run(native, assert) {
      const { channel, peer, close } = link(native);
      const { list, note } = outcomes();
      let output = '';
      peer.onFrame = (type, stream, payload) => {
        if (type === FrameType.data && stream === 1) output += text(payload);
      };
      const [stdin, input] = native.pipe('write', 0);
      const [reader, stdout] = native.pipe('read', 0);
      const child = native.spawn({
        file: ['/usr/bin/tr'],
        argv: ['tr', 'a-z', 'A-Z'],
        env: [],
        fds: [
          [stdin, 0],
          [stdout, 1],
        ],
      });
      native.close(stdin);
      native.close(stdout);
      native.sinkOpen(channel, 1, input, WINDOW, -1, note);
      native.sourceOpen(channel, 1, reader, WINDOW, note);
      peer.send(FrameType.data, 1, bytes('both directions of stream 1\n'));
      peer.send(FrameType.end, 1, new Uint8Array(0));
      assert.equal((await ended(native, child)).code, 0, 'ended');
      await until('all', () => list.length === 2 && peer.hasEnded(1));
      assert.equal(output, 'BOTH DIRECTIONS OF STREAM 1\n', 'output');
      close();
    },
  },
  {
    name: 'sink: the end of a terminal’s input, at the start of a line and inside one',
    async run(native, assert) {
      for (const [input, output] of [
        ['a line\n', 'a line\n'],
        ['half a line', 'half a line'],
        ['', ''],
      ] as const) {
        const { channel, peer, close } = link(native);
        const { list, note } = outcomes();
        const [master, slave] = native.openPty(24, 80);
        const [reader, writer] = native.pipe('read', 0);
        const child = native.spawn({
          file: ['/bin/cat'],
          argv: ['cat'],
          env: [],
          fds: [
            [slave, 0],
            [writer, 1],
          ],
          controllingTerminal: 0,
        });
        native.close(slave);
        native.close(writer);
        const sink = native.sinkOpen(channel, 1, native.dup(master), WINDOW, CTRL_D, note);
        peer.send(FrameType.data, 1, bytes(input));
        peer.send(FrameType.end, 1, new Uint8Array(0));
        peer.send(FrameType.end, 1, new Uint8Array(0));
        peer.send(FrameType.data, 1, bytes('too late'));
        assert.equal((await ended(native, child)).code, 0, `cat ends on "${input}"`);
        assert.equal(await readToEnd(native, reader), output, 'what it read');
        assert.equal(list, [], 'the sink stays open');
        native.sinkStop(sink);
        await until('the outcome', () => list.length === 1);
        assert.equal(list[0], { total: input.length, code: null }, 'without the EOF characters');
        native.close(master);
        close();
      }
    },
  },
  {
    name: 'sink: a terminal that nobody reads holds no more than the window',
    async run(native, assert) {
      const { channel, peer, ends, close } = link(native);
      const { list, note } = outcomes();
      const [master, slave] = native.openPty(24, 80);
      native.sinkOpen(channel, 1, native.dup(master), WINDOW, CTRL_D, note);
      // Lines fill the line buffer; a single endless line would be cut by the kernel.
      for (let sent = 0; sent < 250_000; sent += 100)
        peer.send(FrameType.data, 1, bytes(`${'x'.repeat(99)}\n`));
      for (let index = 0; index < 1000; index++) peer.send(FrameType.end, 1, new Uint8Array(0));
      await sleep(50);
      assert.equal([ends.length, list.length], [0, 0], 'waiting');
      native.close(slave);
      native.close(master);
      close();
      await until('the end', () => list.length === 1);
      assert.ok((list[0]?.total ?? 0) < 200_000, `${list[0]?.total} bytes were taken`);
    },
  },
  {
    name: 'sink: stopped in the middle of a frame, the rest of it is dropped',
    async run(native, assert) {
      const { channel, peer, frames, close } = link(native);
      const { list, note } = outcomes();
      const [reader, writer] = native.pipe('read', 0);
      const sink = native.sinkOpen(channel, 1, writer, WINDOW, -1, note);
      const frame = new Uint8Array(9 + 1000);
      new DataView(frame.buffer).setUint32(0, 1005, true);
      frame[4] = FrameType.data;
      frame[5] = 1;
      peer.write(frame.subarray(0, 500));
      await until('the first part', () => native.pending(reader) === 491);
      native.sinkStop(sink);
      peer.write(frame.subarray(500));
      peer.send(FrameType.message, 0, bytes('next'));
      await until('the next frame', () => frames.length === 1);
      assert.equal(list, [{ total: 491, code: null }], 'outcome');
      assert.equal(native.pending(reader), 491, 'no more was written');
      native.close(reader);
      close();
    },
  },
  {
    name: 'sink: a descriptor that cannot be written to',
    async run(native, assert) {
      const { channel, peer, ends, close } = link(native);
      const { list, note } = outcomes();
      native.sinkOpen(channel, 1, native.open('/dev/null', O_RDONLY, 0), 1000, -1, note);
      peer.send(FrameType.data, 1, bytes('x'));
      await until('the outcome', () => list.length === 1);
      assert.equal([list[0], ends.length], [{ total: 0, code: 'EBADF' }, 0], 'told, and the channel goes on');
      close();
    },
  },
];
