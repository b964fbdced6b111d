/** Children, signals, terminals, cgroups. */
import type { Native } from '../../../native/face.ts';
import type { Case } from '../harness.ts';
import {
  bytes,
  ended,
  isolate,
  MNT_DETACH,
  needsRoot,
  O_DIRECTORY,
  O_RDONLY,
  readToEnd,
  run,
  SIGHUP,
  SIGKILL,
  SIGTERM,
  SIGURG,
  text,
  until,
  withFolder,
} from '../tools.ts';

const PR_SET_CHILD_SUBREAPER = 36;

/** A shell that waits for ever, with nothing of ours open. */
function sleeper(
  native: Native,
  script = 'exec sleep 1000',
  legacyClone = false,
): { pid: number; pidfd: number } {
  const env = ['PATH=/bin:/usr/bin'];
  return native.spawn({ file: ['/bin/sh'], argv: ['sh', '-c', script], env, fds: [], legacyClone });
}

export const processCases: Case[] = [
  {
    name: 'process: exit by code and by signal; waiting does not block',
    async run(native, assert) {
      for (const legacyClone of [false, true]) {
        const child = sleeper(native, 'exec sleep 1000', legacyClone);
        assert.equal(native.waitPid(child.pid), null, 'still there');
        native.killPidfd(child.pidfd, 0);
        native.killPidfd(child.pidfd, SIGTERM);
        const status = await ended(native, child);
        assert.equal([status.pid, status.code, status.signal], [child.pid, undefined, SIGTERM], 'by signal');
        assert.equal(status.core, false, 'no core');
        assert.fails(() => native.waitPid(child.pid), { code: 'ECHILD', syscall: 'wait4' }, 'reaped already');
      }
      assert.equal(
        (await run(native, ['/bin/sh', '-c', 'kill -9 $$'])).status.signal,
        SIGKILL,
        'by its own hand',
      );
      assert.equal((await run(native, ['/bin/sh', '-c', 'exit 255'])).status.code, 255, 'largest code');
    },
  },
  {
    name: 'process: a pidfd never hits another process',
    async run(native, assert) {
      const child = sleeper(native);
      const copy = native.dup(child.pidfd);
      native.kill(child.pid, SIGKILL);
      assert.equal((await ended(native, child)).signal, SIGKILL, 'killed by number');
      assert.fails(() => native.killPidfd(copy, 0), { code: 'ESRCH', syscall: 'pidfd_send_signal' }, 'gone');
      assert.fails(() => native.kill(child.pid, 0), { code: 'ESRCH', syscall: 'kill' }, 'gone by number');
      native.close(copy);
    },
  },
  {
    name: 'process: orphans come to the reaper, and all that ended is reaped at once',
    async run(native, assert) {
      native.prctl(PR_SET_CHILD_SUBREAPER, 1);
      const script = 'for i in 1 2 3 4 5; do (setsid sh -c "exit $i" &) & done; wait; exit 9';
      const parent = sleeper(native, script);
      const codes: number[] = [];
      await until('six exits', () => {
        for (const status of native.reap(100)) codes.push(status.code as number);
        return codes.length >= 6 && native.reap(100).length === 0;
      });
      native.prctl(PR_SET_CHILD_SUBREAPER, 0);
      native.close(parent.pidfd);
      assert.equal(
        codes.filter((code) => code > 0).sort(),
        [1, 2, 3, 4, 5, 9],
        'the parent and its five grandchildren',
      );
      assert.equal(native.reap(100), [], 'no children');
    },
  },
  {
    name: 'process: the death signal of the parent is set, after the change of the user',
    async run(native, assert) {
      const PR_GET_PDEATHSIG = 2;
      const prctl = native.uname().machine === 'aarch64' ? 167 : 157;
      const script = `$b = pack("i", 0); syscall(${prctl}, ${PR_GET_PDEATHSIG}, $b); print unpack("i", $b)`;
      const user = native.getUid() === 0 ? { uid: 4321, gid: 4321 } : {};
      for (const legacyClone of [false, true]) {
        const options = { parentDeathSignal: SIGTERM, legacyClone, ...user };
        const { output } = await run(native, ['/usr/bin/perl', '-e', script], options);
        assert.equal(output, String(SIGTERM), `signal (legacyClone ${legacyClone})`);
      }
      assert.equal((await run(native, ['/usr/bin/perl', '-e', script])).output, '0', 'none unless asked for');
    },
  },
  {
    name: 'process: settings that take a number, and only those',
    run(native, assert) {
      const PR_SET_NAME = 15;
      const PR_GET_DUMPABLE = 3;
      assert.ok(native.prctl(PR_GET_DUMPABLE, 0) <= 2, 'dumpable');
      assert.fails(() => native.prctl(PR_SET_NAME, 4096), { code: 'EINVAL', syscall: 'prctl' }, 'an address');
      assert.ok(native.getPid() > 0 && native.getParentPid() >= 0 && native.getUid() >= 0, 'identity');
      assert.equal(native.readlink('/proc/self'), String(native.getPid()), 'pid as /proc sees it');
    },
  },
  {
    name: 'signals: read from a descriptor',
    async run(native, assert) {
      const fd = native.signalFd([SIGURG]);
      assert.equal(native.readSignals(fd), [], 'none yet');
      const seen: number[] = [];
      native.watch(fd, 1, () => seen.push(...native.readSignals(fd)));
      // A process that has threads may lose one: any thread that does not block an ignored signal can take it.
      await until('the signal', () => {
        if (seen.length === 0) {
          native.kill(native.getPid(), SIGURG);
          seen.push(...native.readSignals(fd));
        }
        return seen.length > 0;
      });
      native.unwatch(fd);
      native.close(fd);
      assert.equal(seen[0], SIGURG, 'the signal sent');
      assert.fails(() => native.readSignals(fd), { code: 'EBADF', syscall: 'read' }, 'closed');
    },
  },
  {
    name: 'pty: a terminal of its own with a size, output, hang-up',
    async run(native, assert) {
      const [master, slave] = native.openPty(33, 120);
      const child = native.spawn({
        file: ['/bin/sh'],
        argv: ['sh', '-c', 'stty size; tty; read line; stty size; exec sleep 1000'],
        env: ['PATH=/bin:/usr/bin'],
        fds: [
          [slave, 0],
          [slave, 1],
          [slave, 2],
        ],
        controllingTerminal: 0,
      });
      native.close(slave);
      let output = '';
      const buffer = new Uint8Array(4096);
      const take = (): string => {
        const count = native.read(master, buffer);
        if (count > 0) output += text(buffer.subarray(0, count));
        return output;
      };
      await until('the first size and the name', () => /33 120\r\n\/dev\/pts\/\d+\r\n/.test(take()));
      native.setWindowSize(master, 50, 77);
      native.write(master, bytes('go\n'));
      await until('the new size', () => take().includes('50 77\r\n'));
      native.close(master);
      assert.equal((await ended(native, child)).signal, SIGHUP, 'the session is hung up');
      assert.fails(
        () => native.setWindowSize(0x7fff, 1, 1),
        { code: 'EBADF', syscall: 'ioctl' },
        'no terminal',
      );
    },
  },
  {
    name: 'cgroup: the child is born in it, whichever way it was cloned',
    run: (native, assert) => {
      needsRoot(native, assert);
      isolate(native, assert);
      return withFolder(native, async (folder) => {
        native.mount('none', folder, 'cgroup2', 0, null);
        const name = `yavm-native-${native.getPid()}`;
        native.mkdir(`${folder}/${name}`, 0o755);
        const cgroupFd = native.open(`${folder}/${name}`, O_RDONLY | O_DIRECTORY, 0);
        try {
          for (const legacyClone of [false, true]) {
            const { output } = await run(native, ['/bin/grep', '^0::', '/proc/self/cgroup'], {
              cgroupFd,
              legacyClone,
            });
            assert.ok(output.trim().endsWith(`/${name}`), `${output.trim()} (legacyClone ${legacyClone})`);
          }
          const file = native.open('/dev/null', O_RDONLY, 0);
          assert.fails(
            () => native.spawn({ file: ['/bin/true'], argv: ['true'], env: [], fds: [], cgroupFd: file }),
            {},
            'no cgroup',
          );
          native.close(file);
        } finally {
          native.close(cgroupFd);
          await until('the kernel empties it, a moment after the exit', () => {
            try {
              native.rmdir(`${folder}/${name}`);
              return true;
            } catch {
              return false;
            }
          });
          native.umount(folder, MNT_DETACH);
        }
      });
    },
  },
  {
    name: 'process: many children at once, each with its own end',
    async run(native, assert) {
      const rounds = assert.soak ? 25 : 2;
      for (let round = 0; round < rounds; round++) {
        const children = Array.from({ length: 40 }, (_, index) => {
          const [reader, writer] = native.pipe('read', 0);
          const child = native.spawn({
            file: ['/bin/sh'],
            argv: ['sh', '-c', `echo ${index}; exit ${index}`],
            env: [],
            fds: [[writer, 1]],
          });
          native.close(writer);
          return Promise.all([ended(native, child), readToEnd(native, reader)]);
        });
        const results = await Promise.all(children);
        assert.equal(
          results.map(([status, output]) => [status.code, output]),
          results.map((_, index) => [index, `${index}\n`]),
          `round ${round}`,
        );
      }
    },
  },
];
