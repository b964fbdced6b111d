/** Open descriptors: bytes, flags, locks, pairs. */
import type { Case } from '../harness.ts';
import {
  bytes,
  needsRoot,
  O_CREAT,
  O_NONBLOCK,
  O_RDONLY,
  O_RDWR,
  readFile,
  text,
  withFolder,
  writeFile,
} from '../tools.ts';

export const fileCases: Case[] = [
  {
    name: 'file: read, write, seek, dup, sync, stat',
    run: (native, assert) =>
      withFolder(native, (folder) => {
        const fd = native.open(`${folder}/f`, O_RDWR | O_CREAT, 0o600);
        assert.equal(native.write(fd, bytes('hello world')), 11, 'written');
        native.fsync(fd);
        assert.equal(native.seek(fd, 6, 0), 6, 'from the start');
        const buffer = new Uint8Array(32);
        assert.equal(native.read(fd, buffer), 5, 'read');
        assert.equal(text(buffer.subarray(0, 5)), 'world', 'content');
        assert.equal(native.read(fd, buffer), 0, 'at the end');
        assert.equal(native.read(fd, new Uint8Array(0)), 0, 'into nothing');
        assert.equal(native.seek(fd, -11, 2), 0, 'from the end');
        const copy = native.dup(fd);
        assert.ok(copy > fd, 'another number');
        assert.equal(native.read(copy, buffer.subarray(4, 9)), 5, 'into the middle of a buffer');
        assert.equal(text(buffer.subarray(4, 9)), 'hello', 'there');
        assert.equal(native.seek(fd, 0, 1), 5, 'both share the offset');
        native.close(copy);
        assert.equal(native.fstat(fd).size, 11, 'size');
        native.chmodFd(fd, 0o444);
        assert.equal(native.fstat(fd).mode & 0o7777, 0o444, 'mode');
        assert.equal(native.pending(fd), 6, 'left to read');
        native.close(fd);
        assert.fails(() => native.close(fd), { code: 'EBADF', syscall: 'close' }, 'closed twice');
        assert.fails(() => native.fstat(fd), { code: 'EBADF', syscall: 'fstat' }, 'stat of a closed one');
      }),
  },
  {
    name: 'file: owner by descriptor',
    run: (native, assert) => {
      needsRoot(native, assert);
      return withFolder(native, (folder) => {
        writeFile(native, `${folder}/f`, '');
        const fd = native.open(`${folder}/f`, O_RDWR, 0);
        native.chownFd(fd, 11, 22);
        const { uid, gid } = native.fstat(fd);
        assert.equal([uid, gid], [11, 22], 'owner');
        native.close(fd);
      });
    },
  },
  {
    name: 'file: every descriptor is close-on-exec',
    run: (native, assert) =>
      withFolder(native, (folder) => {
        writeFile(native, `${folder}/f`, '');
        const [reader, writer] = native.pipe('none', 0);
        const [left, right] = native.socketPair();
        const [master, slave] = native.openPty(24, 80);
        const file = native.open(`${folder}/f`, O_RDONLY, 0);
        const root = native.open(folder, O_RDONLY, 0);
        const beneath = native.openBeneath(root, 'f', O_RDONLY, 0);
        const signals = native.signalFd([10]);
        const all = [
          reader,
          writer,
          left,
          right,
          master,
          slave,
          file,
          root,
          beneath,
          native.dup(file),
          signals,
        ];
        for (const fd of all) {
          const flags = readFile(native, `/proc/self/fdinfo/${fd}`).match(/flags:\s*(\d+)/)?.[1] as string;
          assert.ok(Number.parseInt(flags, 8) & 0o2000000, `O_CLOEXEC of ${fd}: ${flags}`);
          native.close(fd);
        }
      }),
  },
  {
    name: 'file: pipes have their flags and size; what would block says so',
    run(native, assert) {
      const nonBlocking = (fd: number): boolean =>
        (Number.parseInt(
          readFile(native, `/proc/self/fdinfo/${fd}`).match(/flags:\s*(\d+)/)?.[1] as string,
          8,
        ) &
          O_NONBLOCK) !==
        0;
      for (const which of ['none', 'read', 'write', 'both'] as const) {
        const [reader, writer] = native.pipe(which, 0);
        assert.equal(
          [nonBlocking(reader), nonBlocking(writer)],
          [which === 'read' || which === 'both', which === 'write' || which === 'both'],
          which,
        );
        native.close(reader);
        native.close(writer);
      }
      const [reader, writer] = native.pipe('both', 1024 * 1024);
      const buffer = new Uint8Array(2 * 1024 * 1024);
      assert.equal(native.read(reader, buffer), -1, 'nothing to read');
      assert.equal(native.write(writer, buffer), 1024 * 1024, 'what a pipe of 1 MiB takes');
      assert.equal(native.write(writer, buffer), -1, 'full');
      assert.equal(native.pending(reader), 1024 * 1024, 'pending');
      native.close(reader);
      assert.fails(
        () => native.write(writer, bytes('x')),
        { code: 'EPIPE', syscall: 'write' },
        'nobody reads',
      );
      native.close(writer);
      assert.rejects(
        () => native.pipe('all' as 'both', 0),
        /'read', 'write', 'none' or 'both'/,
        'another word',
      );
    },
  },
  {
    name: 'file: non-blocking can be switched; socket pairs carry both ways',
    run(native, assert) {
      const [left, right] = native.socketPair();
      native.setNonBlocking(left, true);
      const buffer = new Uint8Array(8);
      assert.equal(native.read(left, buffer), -1, 'would block');
      native.write(right, bytes('to left'));
      assert.equal(text(buffer.subarray(0, native.read(left, buffer))), 'to left', 'to the left');
      native.write(left, bytes('back'));
      assert.equal(text(buffer.subarray(0, native.read(right, buffer))), 'back', 'to the right');
      native.setNonBlocking(left, false);
      native.close(right);
      assert.equal(native.read(left, buffer), 0, 'end');
      native.close(left);
      assert.fails(() => native.setNonBlocking(left, true), { code: 'EBADF', syscall: 'fcntl' }, 'closed');
    },
  },
  {
    name: 'file: a listening socket with its one connection, and no name',
    run: (native, assert) =>
      withFolder(native, (folder) => {
        const path = `${folder}/socket`;
        const [listener, client] = native.socketListener(path);
        assert.fails(() => native.lstat(path), { code: 'ENOENT' }, 'the name is gone');
        native.setNonBlocking(client, true);
        assert.equal(native.read(client, new Uint8Array(8)), -1, 'open, although nobody has accepted it');
        native.close(listener);
        assert.fails(() => native.read(client, new Uint8Array(8)), { code: 'ECONNRESET' }, 'refused');
        native.close(client);
        writeFile(native, path, '');
        assert.fails(
          () => native.socketListener(path),
          { code: 'EADDRINUSE', syscall: 'bind', path },
          'a name that is taken',
        );
        assert.equal(native.lstat(path).size, 0, 'is left alone');
        assert.rejects(() => native.socketListener('x'.repeat(108)), /at most 107 bytes/, 'too long a path');
      }),
  },
  {
    name: 'file: a lock is held once, or shared',
    run: (native, assert) =>
      withFolder(native, (folder) => {
        writeFile(native, `${folder}/lock`, '');
        const [first, second] = [0, 0].map(() => native.open(`${folder}/lock`, O_RDONLY, 0)) as [
          number,
          number,
        ];
        assert.equal(native.flock(first, true), true, 'taken');
        assert.equal(native.flock(second, true), false, 'held by another');
        assert.equal(native.flock(second, false), false, 'not even shared');
        native.close(first);
        assert.equal(native.flock(second, false), true, 'free again');
        const third = native.open(`${folder}/lock`, O_RDONLY, 0);
        assert.equal(native.flock(third, false), true, 'shared');
        assert.equal(native.flock(third, true), false, 'not alone');
        native.close(second);
        native.close(third);
        assert.fails(() => native.flock(third, true), { code: 'EBADF', syscall: 'flock' }, 'closed');
      }),
  },
];
