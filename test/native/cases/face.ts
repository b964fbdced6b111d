/** What holds for every call: it is there, it checks its arguments, its errors have their fields. */
import type { Case } from '../harness.ts';
import { bytes } from '../tools.ts';

/** native/face.ts, by name; a type cannot be listed at run time. */
const FACE =
  `mount umount switchRoot pivotRoot chroot statfs loadModule deleteModule spawn waitPid reap kill killPidfd
  openPty setWindowSize getPid getParentPid getUid signalFd readSignals ueventOpen ueventRead prctl unshare links linkSet addressAdd addressRemove
  routeAdd routeRemove linkFeature mknod ioctlInt ioctlBuffer open openBeneath close dup seek read write readText writeText fsync
  fstat stat lstat readlink readDirectory mkdir mkdirAt symlink symlinkAt linkAt mknodAt readlinkAt statAt unlinkAt renameAt chownAt
  chmodAt chmodFd chownFd utimesAt unlink rmdir pipe socketPair socketListener setNonBlocking flock pending watch unwatch cborEncode cborDecode channelOpen
  channelSend
  channelQueued channelClose sourceOpen sourceSent sourceDrain sourceStop sinkOpen sinkStop dropProgramPages sync reboot debugExit
  truncate splice pageOffset writeSparse putFile putTarFiles listXattrs getXattr setXattr decodeName encodeName tarHeader
  setHostname setClock monotonic addEntropy uname`.split(/\s+/);

/** native/host-face.ts: what only Node has. */
const HOST_FACE =
  'cable udpConnect dropShort tcpConnect tcpListen receiveDatagrams sendDatagrams receiveBytes sendBytes exchange'.split(
    ' ',
  );

/** The calls that take nothing, or for which any argument would act on the machine. */
const TAKES_NOTHING = new Set(
  'getPid getParentPid getUid links socketPair ueventOpen tcpListen dropProgramPages sync monotonic uname'.split(
    ' ',
  ),
);

function faceOf({ engine }: { engine: boolean }): string[] {
  return engine ? [...FACE] : [...FACE, ...HOST_FACE];
}

export const faceCases: Case[] = [
  {
    name: 'face: exactly the functions that native/face.ts declares, and under Node native/host-face.ts',
    run(native, assert) {
      assert.equal(Object.keys(native).sort(), faceOf(assert).sort(), 'exports');
      for (const value of Object.values(native)) assert.ok(typeof value === 'function', 'a function');
    },
  },
  {
    name: 'face: no call takes missing or wrong arguments',
    run(native, assert) {
      const calls = native as unknown as Record<string, (...args: unknown[]) => unknown>;
      for (const name of faceOf(assert).filter((one) => !TAKES_NOTHING.has(one))) {
        const call = calls[name] as (...args: unknown[]) => unknown;
        assert.rejects(() => call(), new RegExp(`^${name}: .+ must be`), `${name}()`);
        assert.rejects(() => call(Symbol.iterator, {}, []), new RegExp(`^${name}: `), `${name}(symbol)`);
        assert.rejects(() => call(Number.NaN, -1, 1.5), new RegExp(`^${name}: `), `${name}(NaN)`);
      }
    },
  },
  {
    name: 'face: integers have bounds, texts have no NUL, buffers are Uint8Array',
    run(native, assert) {
      const any = native as unknown as Record<string, (...args: unknown[]) => unknown>;
      assert.rejects(() => native.close(-1), /fd must be an integer from 0 to 2147483647/, 'close(-1)');
      assert.rejects(() => native.close(2 ** 31), /fd must be an integer/, 'close(2^31)');
      assert.rejects(() => native.close(0.5), /fd must be an integer/, 'close(0.5)');
      assert.rejects(() => native.stat('a\0b'), /without a NUL/, 'a NUL in a path');
      assert.rejects(() => native.stat('x'.repeat(70_000)), /at most 65536 bytes/, 'a path without end');
      assert.rejects(() => any.read?.(0, new Uint16Array(4)), /buffer must be a Uint8Array/, 'Uint16Array');
      assert.rejects(() => any.read?.(0, [1, 2]), /buffer must be a Uint8Array/, 'an array');
      assert.rejects(
        () => native.mount('a', '/nowhere', 'tmpfs', 0, 'x'.repeat(4096)),
        /data must be a string of at most 4095 bytes/,
        'options that mount(2) would cut',
      );
    },
  },
  {
    name: 'face: errors carry code, errno, syscall and path',
    run(native, assert) {
      assert.fails(
        () => native.open('/nowhere/file', 0, 0),
        {
          message: "ENOENT: no such file or directory, open '/nowhere/file'",
          code: 'ENOENT',
          errno: 2,
          syscall: 'open',
          path: '/nowhere/file',
        },
        'open',
      );
      assert.fails(
        () => native.write(2 ** 20, bytes('x')),
        { message: 'EBADF: bad file descriptor, write', code: 'EBADF', path: undefined },
        'an error without a path',
      );
      assert.fails(() => native.stat(`/${'x'.repeat(5000)}`), { code: 'ENAMETOOLONG' }, 'a long name');
    },
  },
  {
    name: 'face: an exception thrown by an option is the one that is seen',
    run(native, assert) {
      const options = {
        get file(): string[] {
          throw new RangeError('from the getter');
        },
      };
      let seen: unknown = null;
      try {
        native.spawn(options as never);
      } catch (error) {
        seen = error;
      }
      assert.ok(seen instanceof RangeError && seen.message === 'from the getter', `seen: ${seen}`);
    },
  },
];
