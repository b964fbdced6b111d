/** watch: the one asynchronous primitive. */
import type { Case } from '../harness.ts';
import { bytes, O_CREAT, O_RDWR, sleep, until, withFolder } from '../tools.ts';

export const watchCases: Case[] = [
  {
    name: 'watch: level-triggered, until unwatched',
    async run(native, assert) {
      const [reader, writer] = native.pipe('both', 0);
      let calls = 0;
      native.watch(reader, 1, (events) => {
        calls++;
        assert.equal(events, 1, 'readable');
      });
      await sleep(20);
      assert.equal(calls, 0, 'nothing to read');
      native.write(writer, bytes('x'));
      await until('called again and again', () => calls >= 3);
      native.unwatch(reader);
      const seen = calls;
      await sleep(20);
      assert.equal(calls, seen, 'not after unwatch');
      native.unwatch(reader);
      native.unwatch(99_999);
      native.close(reader);
      native.close(writer);
    },
  },
  {
    name: 'watch: a second call replaces events and callback',
    async run(native, assert) {
      const [left, right] = native.socketPair();
      let first = 0;
      let second = 0;
      native.watch(left, 1, () => first++);
      native.watch(left, 2, (events) => {
        second++;
        assert.equal(events, 2, 'writable');
        native.unwatch(left);
      });
      native.write(right, bytes('x'));
      await until('the second', () => second > 0);
      await sleep(10);
      assert.equal([first, second], [0, 1], 'only the second, once');
      native.close(left);
      native.close(right);
    },
  },
  {
    name: 'watch: hang-up and error are reported as what was asked for',
    async run(native, assert) {
      const [reader, writer] = native.pipe('both', 0);
      const seen: string[] = [];
      native.close(writer);
      native.watch(reader, 1, (events) => {
        seen.push(`reader ${events & 1}`);
        native.unwatch(reader);
      });
      const [other, broken] = native.pipe('both', 0);
      native.close(other);
      let calls = 0;
      native.watch(broken, 2, (events) => {
        if (++calls < 3) return; // an error stays, and goes on being reported
        seen.push(`writer ${events & 2}`);
        native.unwatch(broken);
      });
      await until('both', () => seen.length === 2);
      assert.equal(seen.sort(), ['reader 1', 'writer 2'], 'events');
      native.close(reader);
      native.close(broken);
    },
  },
  {
    name: 'watch: a callback may forget, close and watch anything, itself too',
    async run(native, assert) {
      const pipes = Array.from({ length: 8 }, () => native.pipe('both', 0));
      const called: number[] = [];
      let late = 0;
      pipes.forEach(([reader, writer], index) => {
        native.write(writer, bytes('x'));
        native.watch(reader, 1, () => {
          called.push(index);
          // Whoever comes first takes everything down, and a new pipe gets the numbers of the old ones.
          for (const [fd, end] of pipes) {
            native.unwatch(fd);
            native.close(fd);
            native.close(end);
          }
          const [fresh, end] = native.pipe('both', 0);
          native.write(end, bytes('y'));
          native.watch(fresh, 1, () => {
            late++;
            native.unwatch(fresh);
            native.close(fresh);
            native.close(end);
          });
        });
      });
      await until('the new one', () => late === 1);
      await sleep(10);
      assert.equal([called.length, late], [1, 1], 'one old callback, one new');
    },
  },
  {
    name: 'watch: what a callback schedules runs before the next event',
    async run(native, assert) {
      const [reader, writer] = native.pipe('both', 0);
      const order: string[] = [];
      native.write(writer, bytes('x'));
      native.watch(reader, 1, () => {
        order.push('event');
        Promise.resolve().then(() => order.push('microtask'));
      });
      await until('two events', () => order.length >= 4);
      native.unwatch(reader);
      assert.equal(order.slice(0, 4), ['event', 'microtask', 'event', 'microtask'], 'order');
      native.close(reader);
      native.close(writer);
    },
  },
  {
    name: 'watch: regular files and closed descriptors are refused',
    run: (native, assert) =>
      withFolder(native, (folder) => {
        const file = native.open(`${folder}/f`, O_RDWR | O_CREAT, 0o600);
        assert.fails(
          () => native.watch(file, 1, () => {}),
          { code: 'EPERM', syscall: 'epoll_ctl' },
          'a file',
        );
        native.close(file);
        assert.fails(
          () => native.watch(file, 1, () => {}),
          { code: 'EBADF', syscall: 'epoll_ctl' },
          'closed',
        );
        assert.rejects(
          () => native.watch(0, 0, () => {}),
          /events must be an integer from 1 to 3/,
          'no events',
        );
        assert.rejects(
          () => native.watch(0, 4, () => {}),
          /events must be an integer from 1 to 3/,
          'unknown events',
        );
      }),
  },
  {
    name: 'watch: descriptors stay blocking if they were',
    run(native, assert) {
      const [left, right] = native.socketPair();
      native.watch(left, 1, () => {});
      native.unwatch(left);
      native.write(right, bytes('x'));
      native.close(right);
      const buffer = new Uint8Array(8);
      assert.equal(native.read(left, buffer), 1, 'a byte');
      assert.equal(native.read(left, buffer), 0, 'the end, not "would block"');
      native.close(left);
    },
  },
];
