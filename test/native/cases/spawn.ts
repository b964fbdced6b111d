/** spawn: what the child gets, and what each way of failing says. */
import type { SpawnOptions } from '../../../native/face.ts';
import type { Case } from '../harness.ts';
import {
  ended,
  isolate,
  MS_BIND,
  needsRoot,
  O_DIRECTORY,
  O_RDONLY,
  O_RDWR,
  run,
  shell,
  text,
  withFolder,
  writeFile,
} from '../tools.ts';

const spawnable: SpawnOptions = { file: ['/bin/true'], argv: ['true'], env: [], fds: [] };

/** /proc/self/status of a program that catches no signal itself. */
const STATUS = 'cat /proc/self/status';

export const spawnCases: Case[] = [
  {
    name: 'spawn: argv, environment, folder, exit code',
    async run(native, assert) {
      const { status, output } = await run(
        native,
        ['/bin/sh', '-c', 'echo "$0|$1|$A|$(pwd)"; exit 7', 'zero', 'ö n e'],
        {
          env: ['A=ä', 'PATH=/bin'],
          cwd: '/usr',
        },
      );
      assert.equal(output, 'zero|ö n e|ä|/usr\n', 'what the child saw');
      assert.equal([status.code, status.signal], [7, undefined], 'exit code');
      assert.ok(status.userMicroseconds + status.systemMicroseconds > 0, 'CPU time');
      const env = await run(native, ['/usr/bin/env'], { env: [] });
      assert.equal(env.output, '', 'an empty environment');
    },
  },
  {
    name: 'spawn: clean signals, a session of its own, only the descriptors given',
    async run(native, assert) {
      for (const legacyClone of [false, true]) {
        const { output } = await shell(
          native,
          `${STATUS}; ls /proc/self/fd; cut -d' ' -f5,6 /proc/self/stat; echo $$`,
          {
            legacyClone,
          },
        );
        const lines = output.trim().split('\n');
        for (const name of ['SigBlk', 'SigIgn', 'SigCgt']) {
          const line = lines.find((one) => one.startsWith(name)) as string;
          assert.ok(/:\s0{16}$/.test(line), `${line} (legacyClone ${legacyClone})`);
        }
        assert.ok(output.includes('\n0\n1\n2\n3\n'), `0, 1, 2, and 3 of ls itself: ${output}`);
        const [group, session] = (lines.at(-2) as string).split(' ');
        assert.equal([group, session], [lines.at(-1), lines.at(-1)], 'leader of its group and session');
      }
      const same = await shell(native, "cut -d' ' -f6 /proc/self/stat; cut -d' ' -f6 /proc/$PPID/stat", {
        newSession: false,
      });
      const [own, parents] = same.output.trim().split('\n');
      assert.equal(own, parents, 'the session of its parent');
    },
  },
  {
    name: 'spawn: descriptors change places without losing one',
    run: (native, assert) =>
      withFolder(native, async (folder) => {
        const files = ['a', 'b', 'c'].map((name) => {
          writeFile(native, `${folder}/${name}`, name);
          return native.open(`${folder}/${name}`, O_RDONLY, 0);
        }) as [number, number, number];
        const nothing = native.open('/dev/null', O_RDONLY, 0);
        const again = native.open(`${folder}/a`, O_RDONLY, 0);
        const [reader, writer] = native.pipe('none', 0);
        // Each of the three goes where another one is.
        const [a, b, c] = files;
        const { pid, pidfd } = native.spawn({
          ...spawnable,
          file: ['/bin/sh'],
          argv: [
            'sh',
            '-c',
            `${[b, c, a, 900].map((fd) => `cat /proc/self/fd/${fd}; `).join('')}ls /proc/self/fd | wc -l`,
          ],
          env: ['PATH=/bin:/usr/bin'],
          fds: [
            [a, b],
            [b, c],
            [c, a],
            [nothing, 0],
            [writer, 1],
            [again, 900],
          ],
        });
        const status = await ended(native, { pid, pidfd });
        native.close(writer);
        const buffer = new Uint8Array(64);
        const got = text(buffer.subarray(0, native.read(reader, buffer)));
        assert.equal(
          got.replace(/\s+/g, ' '),
          'abca7 ',
          'the three, the first again, and 7 descriptors with ls’s own',
        );
        assert.equal(status.code, 0, 'ended well');
        for (const fd of [...files, nothing, again, reader]) native.close(fd);
      }),
  },
  {
    name: 'spawn: candidates are tried as execvp does',
    run: (native, assert) =>
      withFolder(native, async (folder) => {
        writeFile(native, `${folder}/plain`, 'not a program', 0o644);
        writeFile(native, `${folder}/broken`, 'not a program', 0o755);
        writeFile(native, `${folder}/orphan`, '#!/nowhere/interpreter\n', 0o755);
        const tries = (...file: string[]) => native.spawn({ ...spawnable, file });
        const found = tries('/nowhere/true', `${folder}/plain/true`, `${folder}/plain`, '/bin/true');
        assert.equal((await ended(native, found)).code, 0, 'missing and forbidden ones are passed over');
        assert.fails(
          () => tries('/nowhere/x', `${folder}/plain`, '/nowhere/y'),
          { code: 'EACCES', syscall: 'execve', path: `${folder}/plain` },
          'forbidden is remembered',
        );
        assert.fails(
          () => tries('/nowhere/x', '/nowhere/y'),
          { code: 'ENOENT', path: '/nowhere/y' },
          'none is there',
        );
        assert.fails(
          () => tries(`${folder}/broken`, '/bin/true'),
          { code: 'ENOEXEC', path: `${folder}/broken` },
          'no format',
        );
        assert.fails(
          () => tries(`${folder}/orphan`),
          { code: 'ENOENT', path: `${folder}/orphan` },
          'no interpreter',
        );
        assert.fails(() => tries(folder), { code: 'EACCES', path: folder }, 'a folder');
      }),
  },
  {
    name: 'spawn: too long arguments, missing folders, bad descriptors: the failing call is named',
    run(native, assert) {
      for (const legacyClone of [false, true]) {
        const spawn = (options: Partial<SpawnOptions>) =>
          native.spawn({ ...spawnable, legacyClone, ...options });
        const long = 'x'.repeat(128 * 1024);
        assert.fails(
          () => spawn({ argv: ['true', long] }),
          { code: 'E2BIG', syscall: 'execve' },
          'one long argument',
        );
        const many = Array.from({ length: 100 }, () => 'y'.repeat(100_000));
        assert.fails(
          () => spawn({ argv: many }),
          { code: 'E2BIG', syscall: 'execve', path: '/bin/true' },
          '10 MB',
        );
        assert.fails(
          () => spawn({ env: many }),
          { code: 'E2BIG', syscall: 'execve' },
          '10 MB of environment',
        );
        assert.fails(
          () => spawn({ cwd: '/nowhere' }),
          { code: 'ENOENT', syscall: 'chdir', path: '/nowhere' },
          'cwd',
        );
        assert.fails(
          () => spawn({ fds: [[2 ** 20, 0]] }),
          { code: 'EBADF', syscall: 'fcntl' },
          'a closed descriptor',
        );
        assert.fails(
          () => spawn({ rlimits: [[999, 1, 1]] }),
          { code: 'EINVAL', syscall: 'prlimit' },
          'no such limit',
        );
        assert.fails(
          () => spawn({ rlimits: [[7, 2, 1]] }),
          { code: 'EINVAL', syscall: 'prlimit' },
          'soft over hard',
        );
        assert.fails(
          () => spawn({ controllingTerminal: 5 }),
          { code: 'EBADF', syscall: 'ioctl' },
          'no terminal',
        );
        const file = native.open('/dev/null', O_RDWR, 0);
        assert.fails(
          () => spawn({ rootFd: file }),
          { code: 'ENOTDIR', syscall: 'fchdir' },
          'a root that is a file',
        );
        native.close(file);
      }
      assert.equal(native.reap(1).length, 0, 'failed children are reaped');
    },
  },
  {
    name: 'spawn: wrong options are refused before anything starts',
    run(native, assert) {
      const rejects = (options: Record<string, unknown>, pattern: RegExp) =>
        assert.rejects(
          () => native.spawn({ ...spawnable, ...options } as SpawnOptions),
          pattern,
          JSON.stringify(options),
        );
      rejects({ file: [] }, /file must be at least one path/);
      rejects({ argv: [] }, /argv must be at least one string/);
      rejects({ argv: 'true' }, /argv must be an array/);
      rejects({ env: ['A=1', 5] }, /env must be a string/);
      rejects(
        {
          fds: [
            [1, 1],
            [2, 1],
          ],
        },
        /different descriptors/,
      );
      rejects({ fds: [[1]] }, /pairs of descriptors/);
      rejects({ fds: [[1, 5000]] }, /at most 1023/);
      rejects({ groups: [1] }, /together with gid/);
      rejects({ uid: 2 ** 32 - 1 }, /uid must be an integer/);
      rejects({ uid: -1 }, /uid must be an integer/);
      rejects({ rlimits: [[1, 2]] }, /triples/);
      rejects({ rlimits: [[-1, 2, 3]] }, /triples/);
      rejects({ parentDeathSignal: 65 }, /parentDeathSignal/);
      rejects({ noNewPrivileges: 1 }, /a boolean/);
      rejects({ oomScoreAdjust: 1001 }, /oomScoreAdjust/);
    },
  },
  {
    name: 'spawn: another user keeps nothing of root',
    async run(native, assert) {
      needsRoot(native, assert);
      const dumpable = native.prctl(3, 0);
      const { output } = await shell(
        native,
        `${STATUS}; cat /proc/self/oom_score_adj; umask; ulimit -n; ulimit -Hn`,
        {
          uid: 4321,
          gid: 5432,
          groups: [7, 6543],
          noNewPrivileges: true,
          oomScoreAdjust: 321,
          umask: 0o27,
          rlimits: [[7, 99, 111]],
        },
      );
      const value = (name: string) => output.match(new RegExp(`^${name}:\\s*(.*)$`, 'm'))?.[1]?.trim();
      assert.equal(value('Uid'), '4321\t4321\t4321\t4321', 'uid');
      assert.equal(value('Gid'), '5432\t5432\t5432\t5432', 'gid');
      assert.equal(value('Groups'), '7 6543', 'groups');
      assert.equal(value('NoNewPrivs'), '1', 'no new privileges');
      assert.ok(output.trim().endsWith('321\n0027\n99\n111'), `oom score, umask, limits: ${output}`);
      assert.equal(native.prctl(3, 0), dumpable, 'this process is as dumpable as before');
      const alone = await shell(native, STATUS, { uid: 4321, gid: 5432 });
      assert.ok(/^Groups:\s*$/m.test(alone.output), 'no supplementary groups');
    },
  },
  {
    name: 'spawn: the working folder is entered as the user',
    run: (native, assert) => {
      needsRoot(native, assert);
      return withFolder(native, (folder) => {
        native.mkdir(`${folder}/private`, 0o700);
        assert.fails(
          () => native.spawn({ ...spawnable, uid: 4321, gid: 4321, cwd: `${folder}/private` }),
          { code: 'EACCES', syscall: 'chdir', path: `${folder}/private` },
          'a folder of root',
        );
      });
    },
  },
  {
    name: 'spawn: a new root, by descriptor',
    run: (native, assert) => {
      needsRoot(native, assert);
      isolate(native, assert);
      return withFolder(native, async (folder) => {
        for (const name of ['bin', 'lib', 'lib64', 'usr', 'work']) native.mkdir(`${folder}/${name}`, 0o755);
        writeFile(native, `${folder}/marker`, 'new root');
        const bound = ['bin', 'lib', 'lib64', 'usr'].filter((name) => exists(native, `/${name}`));
        for (const name of bound) native.mount(`/${name}`, `${folder}/${name}`, null, MS_BIND, null);
        const root = native.open(folder, O_RDONLY | O_DIRECTORY, 0);
        try {
          const { output } = await shell(native, 'cat /marker; pwd; ls /; ls -d /etc 2>&1', {
            rootFd: root,
            cwd: '/work',
          });
          assert.ok(output.startsWith('new root/work\n'), `inside: ${output}`);
          assert.ok(/cannot access|No such file/.test(output), `nothing of the old root: ${output}`);
          assert.fails(
            () => native.spawn({ ...spawnable, rootFd: root, cwd: '/etc' }),
            { code: 'ENOENT', syscall: 'chdir' },
            'cwd is inside the root',
          );
        } finally {
          native.close(root);
          for (const name of bound) native.umount(`${folder}/${name}`, 0);
        }
      });
    },
  },
];

function exists(native: Parameters<Case['run']>[0], path: string): boolean {
  try {
    native.stat(path);
    return true;
  } catch {
    return false;
  }
}
