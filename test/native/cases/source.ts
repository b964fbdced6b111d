/** Sources: pipes, files and terminals pumped into DATA frames, never beyond the credit. */
import { FrameType } from '../../../guest/protocol/frames.ts';
import type { Case } from '../harness.ts';
import { link, outcomes } from '../peer.ts';
import {
  bytes,
  deferred,
  ended,
  feed,
  isPattern,
  O_CREAT,
  O_RDONLY,
  O_WRONLY,
  pattern,
  sleep,
  text,
  until,
  withFolder,
} from '../tools.ts';

const WINDOW = 256 * 1024;

export const sourceCases: Case[] = [
  {
    name: 'source: small outputs arrive whole, then END, then the total',
    async run(native, assert) {
      for (const size of [0, 1, 4095, 4096, 4097, 65_536, 131_063, 131_064]) {
        const { channel, peer, close } = link(native);
        const { list, note } = outcomes();
        const [reader, writer] = native.pipe('none', 0);
        let intact = true;
        let received = 0;
        peer.onFrame = (_type, _stream, payload) => {
          intact &&= isPattern(payload, received);
          received += payload.length;
        };
        native.sourceOpen(channel, 3, reader, WINDOW, note);
        await feed(native, writer, size);
        await until('the end', () => list.length === 1 && peer.hasEnded(3));
        assert.equal(list, [{ total: size, code: null }], `outcome of ${size} bytes`);
        assert.equal([received, intact], [size, true], `${size} bytes at the peer`);
        assert.equal(peer.frames.at(-1)?.type, FrameType.end, 'END is last');
        close();
      }
    },
  },
  {
    name: 'source: never more than the credit; more of it goes on',
    async run(native, assert) {
      for (const credit of [1, 7, 1000, 32_759, 32_768, 100_000]) {
        const { channel, peer, close } = link(native);
        const { list, note } = outcomes();
        const [reader, writer] = native.pipe('none', 1024 * 1024);
        const source = native.sourceOpen(channel, 9, reader, credit, note);
        native.write(writer, pattern(0, 200_000));
        const crumb = Math.max(1, Math.min(32_759, Math.floor(credit / 8)));
        await until('the credit is spent', () => peer.received(9) > credit - crumb);
        await sleep(10);
        assert.ok(peer.received(9) <= credit, `${peer.received(9)} of ${credit}`);
        peer.credit(9, 300_000);
        await until('all', () => peer.received(9) === 200_000);
        assert.equal(native.sourceSent(source), 200_000, 'sent');
        native.close(writer);
        await until('the end', () => list.length === 1);
        close();
      }
    },
  },
  {
    name: 'source: without credit it does not even see the end',
    async run(native, assert) {
      const { channel, peer, close } = link(native);
      const { list, note } = outcomes();
      const [reader, writer] = native.pipe('none', 0);
      native.sourceOpen(channel, 1, reader, 0, note);
      native.write(writer, bytes('waits'));
      native.close(writer);
      await sleep(20);
      assert.equal([peer.frames.length, list.length], [0, 0], 'nothing yet');
      peer.credit(1, 2 ** 32 - 1);
      peer.credit(1, 2 ** 32 - 1);
      await until('the end', () => peer.hasEnded(1) && list.length === 1);
      assert.equal(peer.received(1), 5, 'after huge credit');
      close();
    },
  },
  {
    name: 'source: an ordinary pipe, kept full, is read in whole 32 KiB writes',
    async run(native, assert) {
      const { channel, peer, close } = link(native);
      const { list, note } = outcomes();
      const [reader, writer] = native.pipe('none', 0);
      native.write(writer, new Uint8Array(65_536));
      native.sourceOpen(channel, 1, reader, 2 ** 32 - 1, note);
      await until('the first frame', () => peer.frames.length > 0);
      assert.equal(peer.frames[0]?.size, 65_527, 'two units, not 9 bytes more');
      native.close(writer);
      await until('the end', () => list.length === 1);
      close();
    },
  },
  {
    name: 'source: a regular file, while another source has its turns',
    run: (native, assert) =>
      withFolder(native, async (folder) => {
        const size = 8 * 1024 * 1024;
        const file = native.open(`${folder}/f`, O_WRONLY | O_CREAT, 0o600);
        for (let at = 0; at < size; at += 131_072) native.write(file, pattern(at, 131_072));
        native.close(file);
        const { channel, peer, close } = link(native);
        const { list, note } = outcomes();
        let received = 0;
        let intact = true;
        let other = -1;
        peer.onFrame = (type, stream, payload) => {
          if (stream === 2 && type === FrameType.data && other < 0) other = received;
          if (stream !== 1) return;
          intact &&= isPattern(payload, received);
          received += payload.length;
        };
        const [reader, writer] = native.pipe('none', 0);
        native.sourceOpen(channel, 1, native.open(`${folder}/f`, O_RDONLY, 0), 2 ** 32 - 1, note);
        native.sourceOpen(channel, 2, reader, WINDOW, note);
        native.write(writer, bytes('in between'));
        await until('the end', () => peer.hasEnded(1) && list.length === 1);
        assert.equal([received, intact, list[0]?.total], [size, true, size], 'the file');
        assert.ok(other >= 0 && other < size, `the other came after ${other} bytes of the file`);
        native.close(writer);
        await until('the other’s end', () => list.length === 2);
        close();
      }),
  },
  {
    name: 'source: stopped early it sends END and tells the total',
    async run(native, assert) {
      const { channel, peer, close } = link(native);
      const { list, note } = outcomes();
      const [reader, writer] = native.pipe('none', 0);
      const source = native.sourceOpen(channel, 4, reader, WINDOW, note);
      native.write(writer, bytes('12345'));
      await until('five bytes', () => peer.received(4) === 5);
      native.sourceStop(source);
      native.sourceStop(source);
      assert.fails(
        () => native.write(writer, bytes('x')),
        { code: 'EPIPE' },
        'its end of the pipe is closed',
      );
      await until('the end', () => peer.hasEnded(4) && list.length === 1);
      assert.equal(list, [{ total: 5, code: null }], 'outcome');
      await sleep(5);
      assert.equal(peer.of(FrameType.end, 4).length, 1, 'one END');
      native.close(writer);
      close();
    },
  },
  {
    name: 'source: a drain waits for what was in the pipe, not for what comes later',
    async run(native, assert) {
      const { channel, peer, close } = link(native);
      const { list, note } = outcomes();
      const [reader, writer] = native.pipe('none', 1024 * 1024);
      const keeper = native.dup(writer); // a background child that keeps the pipe
      const source = native.sourceOpen(channel, 1, reader, 100_000, note);
      native.write(writer, pattern(0, 250_000));
      native.close(writer);
      const drained = deferred<number>();
      native.sourceDrain(source, drained.resolve);
      native.write(keeper, pattern(250_000, 50_000));
      await until('the credit is spent', () => peer.received(1) > 80_000);
      let total = -1;
      drained.promise.then((value) => {
        total = value;
      });
      await sleep(10);
      assert.equal(total, -1, 'not drained without credit');
      peer.credit(1, 10_000_000);
      total = await drained.promise;
      assert.ok(total >= 250_000 && total <= 300_000, `drained at ${total}`);
      await until('later output', () => peer.received(1) === 300_000);
      const again = deferred<number>();
      native.sourceDrain(source, again.resolve);
      assert.equal(await again.promise, 300_000, 'at once when the pipe is empty');
      native.close(keeper);
      await until('the end', () => list.length === 1);
      assert.fails(() => native.sourceDrain(source, () => {}), { code: 'EBADF' }, 'after the end');
      close();
    },
  },
  {
    name: 'source: a drain under a writer that never stops still ends',
    async run(native, assert) {
      const { channel, peer, close } = link(native);
      const { list, note } = outcomes();
      const [reader, writer] = native.pipe('read', 0);
      const child = native.spawn({
        file: ['/bin/sh'],
        argv: ['sh', '-c', 'while :; do echo spam; done'],
        env: [],
        fds: [[writer, 1]],
      });
      native.close(writer);
      peer.onFrame = (type, _stream, payload) => {
        if (type === FrameType.data) peer.credit(1, payload.length);
      };
      const source = native.sourceOpen(channel, 1, reader, WINDOW, note);
      await until('output', () => peer.received(1) > 10_000);
      for (let round = 0; round < 5; round++) {
        const drained = deferred<number>();
        native.sourceDrain(source, drained.resolve);
        const total = await drained.promise;
        assert.ok(total <= native.sourceSent(source), `drained at ${total}`);
      }
      native.killPidfd(child.pidfd, 9);
      await ended(native, child);
      await until('the end', () => list.length === 1 && peer.hasEnded(1));
      assert.equal(peer.received(1), list[0]?.total, 'total');
      close();
    },
  },
  {
    name: 'source: a drain that is asked for before the end is answered before it',
    async run(native, assert) {
      const { channel, peer, close } = link(native);
      const order: string[] = [];
      const [reader, writer] = native.pipe('none', 0);
      const source = native.sourceOpen(channel, 1, reader, WINDOW, (total) => order.push(`end ${total}`));
      native.write(writer, bytes('abc'));
      native.close(writer);
      native.sourceDrain(source, (total) => order.push(`drain ${total}`));
      native.sourceDrain(source, (total) => order.push(`again ${total}`));
      await until('all', () => order.length === 3);
      assert.equal(order, ['drain 3', 'again 3', 'end 3'], 'order');
      assert.ok(peer.received(1) <= 3, 'sent');
      close();
    },
  },
  {
    name: 'source: a terminal, drained at its child’s exit, gives all of its output',
    async run(native, assert) {
      const rounds = assert.soak ? 200 : 15;
      for (let round = 0; round < rounds; round++) {
        const { channel, peer, close } = link(native);
        const { list, note } = outcomes();
        const [master, slave] = native.openPty(24, 80);
        const source = native.sourceOpen(channel, 1, native.dup(master), 2 ** 31, note);
        const child = native.spawn({
          file: ['/bin/sh'],
          argv: [
            'sh',
            '-c',
            'stty raw; i=0; while [ $i -lt 500 ]; do echo 0123456789012345678; i=$((i+1)); done',
          ],
          env: ['PATH=/bin:/usr/bin'],
          fds: [
            [slave, 0],
            [slave, 1],
            [slave, 2],
          ],
          controllingTerminal: 0,
        });
        // We keep the slave, as a background child would: so there is no hang-up to wait for.
        await ended(native, child);
        const drained = deferred<number>();
        native.sourceDrain(source, drained.resolve);
        assert.equal(await drained.promise, 10_000, `round ${round}`);
        native.close(slave);
        native.close(master);
        await until('the end', () => list.length === 1 && peer.hasEnded(1));
        assert.equal(list[0], { total: 10_000, code: null }, 'a hang-up is an end');
        assert.equal(peer.received(1), 10_000, 'received');
        close();
      }
    },
  },
  {
    name: 'source: a drained terminal without credit or output answers at once',
    async run(native, assert) {
      const { channel, close } = link(native);
      const { list, note } = outcomes();
      const [master, slave] = native.openPty(24, 80);
      const source = native.sourceOpen(channel, 1, master, 0, note);
      const drained = deferred<number>();
      native.sourceDrain(source, drained.resolve);
      assert.equal(await drained.promise, 0, 'nothing was there');
      native.close(slave);
      close();
      await until('the end', () => list.length === 1);
    },
  },
  {
    name: 'source: the channel’s end ends it with an error, half a frame out or not',
    async run(native, assert) {
      for (const credit of [0, 2 ** 32 - 1]) {
        const { channel, peer, ends, close } = link(native);
        const { list, note } = outcomes();
        const totals: number[] = [];
        const [reader, writer] = native.pipe('both', 1024 * 1024);
        peer.read(false);
        const source = native.sourceOpen(channel, 1, reader, credit, note);
        // More than pipe and socket hold.
        const block = new Uint8Array(65_536);
        for (let full = 0; full < 5; ) {
          if (native.write(writer, block) > 0) continue;
          full++;
          await sleep(5);
        }
        native.sourceDrain(source, (total) => totals.push(total));
        const queued = native.channelQueued(channel);
        assert.equal(queued > 0, credit > 0, `${queued} bytes of a frame wait`);
        peer.close();
        await until('both ends', () => list.length === 1 && ends.length === 1);
        assert.equal(list[0]?.code, 'EPIPE', 'outcome');
        assert.equal(totals, [list[0]?.total as number], 'the drain is answered too');
        assert.fails(() => native.write(writer, bytes('x')), { code: 'EPIPE' }, 'the writer is told');
        native.close(writer);
        close();
      }
    },
  },
  {
    name: 'source: text of a program, through a credit of a few bytes at a time',
    async run(native, assert) {
      const { channel, peer, close } = link(native);
      const { list, note } = outcomes();
      let output = '';
      peer.onFrame = (type, _stream, payload) => {
        if (type !== FrameType.data) return;
        output += text(payload);
        peer.credit(1, payload.length);
      };
      const [reader, writer] = native.pipe('none', 0);
      const child = native.spawn({
        file: ['/usr/bin/seq'],
        argv: ['seq', '1', '200'],
        env: [],
        fds: [[writer, 1]],
      });
      native.close(writer);
      native.sourceOpen(channel, 1, reader, 5, note);
      await ended(native, child);
      await until('the end', () => list.length === 1 && peer.hasEnded(1));
      assert.equal(output, Array.from({ length: 200 }, (_, index) => `${index + 1}\n`).join(''), 'output');
      assert.ok(
        peer.of(FrameType.data, 1).every((frame) => frame.size <= 5),
        'frames within the credit',
      );
      close();
    },
  },
];
