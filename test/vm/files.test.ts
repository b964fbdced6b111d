/** Files go in and come out whole, beneath the task's root and nowhere else, whatever the task has planted there. */
import t, { type Test } from 'tap';
import { sleep } from '../../host/lib/deadline.ts';
import type { Vm } from '../../host/runtime/index.ts';
import { Random } from '../lib/random.ts';
import { eventually } from '../lib/running.ts';
import { bytes, count } from '../lib/scale.ts';
import { makeTar, readTar, systemTar } from '../lib/tar.ts';
import { Collector, sha256, shell, startTestVm } from '../lib/vm.ts';

// The runner has a deadline for the whole file.
t.setTimeout(0);

const MIB = 1024 * 1024;
const LARGEST = bytes(1e8);
const content = new Random(7).bytes(LARGEST);
const FAILED = 'YAVM_E_GUEST_FILE_FAILED';

t.test('a VM', async (t) => {
  const vm = await startTestVm(t, { root: { disk: 512 * MIB } });
  await t.test('files', (t) => files(t, vm));
  await t.test('archives', (t) => archives(t, vm));
  await t.test('beneath the root', (t) => beneath(t, vm));
  await t.test('refusals', (t) => refusals(t, vm));
  await t.test('transfers that end early, or stand still', (t) => interrupted(t, vm));
  t.equal(await shell(vm, 'find / -xdev -name ".yavm-*"'), '', 'no temporary file is left anywhere');
});

async function read(vm: Vm, path: string, format: 'file' | 'tar' = 'file'): Promise<Buffer> {
  const pieces: Buffer[] = [];
  const reply = await vm.readFiles(path, (piece) => void pieces.push(Buffer.from(piece)), { format });
  const all = Buffer.concat(pieces);
  if (reply.bytes !== all.length) throw new Error(`${all.length} bytes came, ${reply.bytes} were announced`);
  return all;
}

/** Pieces of odd sizes. */
function* pieces(of: Uint8Array, random: Random): Generator<Uint8Array> {
  for (let at = 0; at < of.length; ) {
    const size = random.pick([1, 9, 4095, 4096, 65536, 100_001, 1_000_000]);
    yield of.subarray(at, at + size);
    at += size;
  }
}

async function files(t: Test, vm: Vm): Promise<void> {
  t.test('are the same in the guest, and back on the host', async (t) => {
    const random = new Random(8);
    for (const size of [0, 1, 4095, 4096, 4097, 65536, 1_000_000, LARGEST]) {
      const part = content.subarray(0, size);
      t.strictSame(await vm.writeFiles('/data/file', pieces(part, random)), { bytes: size, entries: 1 });
      t.equal(await shell(vm, 'sha256sum </data/file'), `${sha256(part)}  -\n`);
      const back = new Collector();
      t.strictSame(await vm.readFiles('/data/file', back.sink), { bytes: size, entries: 1 });
      t.match(back.collected(), { bytes: size, sha256: sha256(part) });
    }
  });

  t.test('many at a time, in and out', async (t) => {
    const numbers = Array.from({ length: 20 }, (_, number) => number);
    const part = (number: number) => content.subarray(number, 50_000 * number);
    for (let round = 0; round < count(20); round++) {
      await Promise.all(numbers.map((number) => vm.writeFiles(`/many/${round}/${number}`, [part(number)])));
      const back = await Promise.all(numbers.map((number) => read(vm, `/many/${round}/${number}`)));
      t.strictSame(
        back.map(sha256),
        numbers.map((number) => sha256(part(number))),
      );
    }
  });

  t.test('have the mode and owner asked for, and keep those that they have', async (t) => {
    const stat = (path: string) => shell(vm, `stat -c "%a %u:%g" ${path}`);
    await vm.writeFiles('/made/of/parts', [Buffer.from('one')], { mode: 0o4750, uid: 1000, gid: 100 });
    t.equal(await stat('/made/of/parts'), '4750 1000:100\n');
    t.equal(await stat('/made/of'), '755 1000:100\n', 'directories on the way are made');
    await vm.writeFiles('/made/of/parts', [Buffer.from('two')]);
    t.equal(await shell(vm, 'cat /made/of/parts'), 'two');
    t.equal(await stat('/made/of/parts'), '4750 1000:100\n');
    await vm.writeFiles('/plain', []);
    t.equal(await stat('/plain'), '644 0:0\n');
    t.equal(await shell(vm, 'ls -A /made/of'), 'parts\n');
  });

  t.test('of the image can be read and replaced, and those that have no size read', async (t) => {
    t.equal((await read(vm, '/etc/os-release')).toString(), await shell(vm, 'cat /etc/os-release'));
    await vm.writeFiles('/etc/os-release', [Buffer.from('replaced\n')]);
    t.equal(await shell(vm, 'cat /etc/os-release'), 'replaced\n');
    t.match((await read(vm, '/proc/version')).toString(), /^Linux version /);
  });
}

async function archives(t: Test, vm: Vm): Promise<void> {
  const tree = `
    umask 0; mkdir -p /tree/a/b /tree/empty /tree/sticky; cd /tree; chmod 1777 sticky
    for size in 0 1 511 512 513 100000; do head -c $size /data/file >a/size-$size; done
    echo text >"a/b/ünïcödé 名前 😀"; echo long >a/${'n'.repeat(250)}
    ln a/size-1 same; ln -s ../nowhere dangling; ln -s /etc/passwd absolute
    echo x >set; chown 1234:3000000 set; chmod 6755 set; mkfifo -m 622 fifo; mknod null c 1 3
    touch -d @1500000000 a/size-1 a/b a empty`;
  // Not of links, whose times busybox cannot set; the sizes of directories are the file system's.
  const list =
    'find . -exec stat -c "%n|%f|%u:%g|%h|%t:%T" {} + | sort; find . -type f -exec sha256sum {} + | sort';
  const times = 'find . -type f -exec stat -c "%n %Y" {} + | sort';
  const listing = async (path: string) =>
    await shell(vm, `cd ${path}; ${list}; ${times}; readlink dangling; readlink absolute`);

  t.test('of a tree have all of it, and make the same tree elsewhere', async (t) => {
    await shell(vm, tree);
    const archive = await read(vm, '/tree', 'tar');
    const entries = readTar(archive);
    t.match(
      entries.find(({ name }) => name === 'tree/a/size-100000'),
      { type: 'file', mode: 0o666, uid: 0, gid: 0, content: content.subarray(0, 100_000) },
    );
    t.match(
      entries.find(({ name }) => name === 'tree/set'),
      { mode: 0o6755, uid: 1234, gid: 3_000_000 },
    );
    t.match(
      entries.find(({ name }) => name === 'tree/absolute'),
      { type: 'symlink', linkName: '/etc/passwd' },
    );
    t.match(
      entries.find(({ name }) => name === 'tree/null'),
      { type: 'character', major: 1, minor: 3 },
    );
    t.equal(entries.filter(({ type }) => type === 'hardLink').length, 1);
    t.equal(systemTar(['--list', '-f', '-'], archive).toString().trim().split('\n').length, entries.length);

    const reply = await vm.writeFiles('/copy/here', [archive], { format: 'tar' });
    t.strictSame(reply, { bytes: archive.length, entries: entries.length, leftOut: 0 });
    t.equal(await listing('/copy/here/tree'), await listing('/tree'));
    const again = await vm.writeFiles('/copy/here', [archive], { format: 'tar' });
    t.equal(again.entries, entries.length, 'over what is there');
    t.equal(await listing('/copy/here/tree'), await listing('/tree'));
  });

  t.test('of the whole root leave the kernel’s file systems out', async (t) => {
    await shell(vm, 'rm -r /data /many');
    const names = readTar(await read(vm, '/', 'tar')).map(({ name }) => name);
    t.ok(names.length > 300, `${names.length} entries`);
    for (const name of ['./', './bin/busybox', './tree/set', './proc/', './dev/'])
      t.ok(names.includes(name), name);
    t.notOk(names.some((name) => /^\.\/(proc|sys)\/./.test(name)));
  });
}

async function beneath(t: Test, vm: Vm): Promise<void> {
  t.test('no path and no link leads out of the task’s root', async (t) => {
    // In the agent's own root there are init, /layers and /upper, and no /etc/passwd.
    const links = `mkdir -p /links; cd /links; ln -s /etc/passwd absolute; ln -s / root; ln -s ../../../../../etc up
      ln -s /proc/1/root init; ln -s /proc/self/fd/4 fd; ln -s /proc/self/exe exe; ln -s loop loop; ln -s /made-here new`;
    await shell(vm, links);
    const passwd = await shell(vm, 'cat /etc/passwd');
    const inside = [
      '/links/absolute',
      '/links/up/passwd',
      '/links/root/etc/passwd',
      '/links/root/../../../etc/passwd',
      '/../../../etc/passwd',
      'etc/passwd',
      '/proc/../etc/passwd',
    ];
    for (const path of inside) t.equal((await read(vm, path)).toString(), passwd, path);
    const agent = await shell(vm, 'ls -lR /proc/1/root/init /proc/1/root/layers/0/etc');
    const unreadable: [path: string, errno: string][] = [
      ['/proc/self/root/init', 'ELOOP'],
      ['/proc/1/root/init', 'ELOOP'],
      ['/proc/1/cwd/init', 'ELOOP'],
      ['/proc/1/exe', 'ELOOP'],
      ['/proc/self/fd/4/etc/passwd', 'ELOOP'],
      ['/links/init/etc/passwd', 'ELOOP'],
      ['/links/fd/etc/passwd', 'ELOOP'],
      ['/links/exe', 'ELOOP'],
      ['/links/loop', 'ELOOP'],
      ['/init', 'ENOENT'],
      ['/../init', 'ENOENT'],
      ['/upper/upper', 'ENOENT'],
    ];
    for (const [path, errno] of unreadable) await t.rejects(read(vm, path), { code: FAILED, errno }, path);
    for (const path of ['/proc/1/root/', '/proc/1/cwd/.', '/links/init/etc', '/upper'])
      await t.rejects(read(vm, path, 'tar'), { code: FAILED, errno: /ELOOP|ENOENT/ }, path);
    const unwritable = [
      '/proc/1/root/new',
      '/proc/1/cwd/new',
      '/links/init/new',
      '/links/fd/new',
      '/links/loop',
    ];
    for (const path of unwritable) {
      await t.rejects(vm.writeFiles(path, [Buffer.from('x')]), { code: FAILED, errno: 'ELOOP' }, path);
      const tar = makeTar([{ name: 'new', content: Buffer.from('x') }]);
      await t.rejects(vm.writeFiles(path, [tar], { format: 'tar' }), { code: FAILED, errno: 'ELOOP' }, path);
    }
    t.equal(
      await shell(vm, 'ls -lR /proc/1/root/init /proc/1/root/layers/0/etc'),
      agent,
      'all is as it was there',
    );
    t.equal(await shell(vm, 'ls -d /proc/1/root/new 2>/dev/null; true'), '');
  });

  t.test('what is written through links lands in it', async (t) => {
    const write = (path: string) => vm.writeFiles(path, [Buffer.from(path)]);
    await write('/links/new');
    t.equal(await shell(vm, 'cat /made-here'), '/links/new', 'a link that leads nowhere is followed');
    await write('/links/up/up-file');
    t.equal(await shell(vm, 'cat /etc/up-file'), '/links/up/up-file');
    await write('/links/root/root-file');
    t.equal(await shell(vm, 'cat /root-file'), '/links/root/root-file');
    await write('/../../climbed');
    t.equal(await shell(vm, 'cat /climbed'), '/../../climbed');
    t.equal(
      await shell(vm, 'readlink /links/new; readlink /links/up'),
      '/made-here\n../../../../../etc\n',
      'links stay links',
    );
  });

  t.test('nor does an archive', async (t) => {
    const evil = (items: Parameters<typeof makeTar>[0]) =>
      vm.writeFiles('/jail/inside', [makeTar(items)], { format: 'tar' });
    const file = Buffer.from('evil');
    await t.rejects(evil([{ name: '../escaped', content: file }]), { code: 'YAVM_E_GUEST_BAD_ARCHIVE' });
    await t.rejects(evil([{ name: 'a/../../escaped', content: file }]), { code: 'YAVM_E_GUEST_BAD_ARCHIVE' });
    await evil([
      { name: '/absolute', content: file },
      { name: 'out', type: 'symlink', linkName: '/' },
      { name: 'out/by-link', content: file },
      { name: 'up', type: 'symlink', linkName: '../../../..' },
      { name: 'up/by-up', content: file },
    ]);
    t.equal(await shell(vm, 'ls /jail; cd /jail/inside; ls'), 'inside\nabsolute\nby-link\nby-up\nout\nup\n');
    t.equal(await shell(vm, 'ls /escaped /by-link /by-up /absolute 2>/dev/null; true'), '');
  });
}

async function refusals(t: Test, vm: Vm): Promise<void> {
  t.test('each is an error with errno and path', async (t) => {
    await shell(vm, 'mkdir /directory; mkfifo /fifo; rm -rf /full');
    await vm.mount({ kind: 'ram', path: '/full', size: MIB });
    const write = (path: string, of: Uint8Array = Buffer.from('x')) => vm.writeFiles(path, [of]);
    const tar = (path: string, of: Uint8Array) => vm.writeFiles(path, [of], { format: 'tar' });
    const cases: [
      what: string,
      work: () => Promise<unknown>,
      error: { code: string; errno?: string; path?: string },
    ][] = [
      ['reading nothing', () => read(vm, '/nothing'), { code: FAILED, errno: 'ENOENT', path: '/nothing' }],
      [
        'reading a directory',
        () => read(vm, '/directory'),
        { code: FAILED, errno: 'EISDIR', path: '/directory' },
      ],
      ['reading a fifo', () => read(vm, '/fifo'), { code: FAILED, errno: 'EINVAL', path: '/fifo' }],
      ['reading a terminal', () => read(vm, '/dev/tty'), { code: FAILED, errno: 'ENXIO', path: '/dev/tty' }],
      [
        'reading without end',
        () => read(vm, '/dev/zero'),
        { code: FAILED, errno: 'EINVAL', path: '/dev/zero' },
      ],
      ['archiving nothing', () => read(vm, '/nothing', 'tar'), { code: FAILED, errno: 'ENOENT' }],
      [
        'writing a directory',
        () => write('/directory'),
        { code: FAILED, errno: 'EISDIR', path: '/directory' },
      ],
      ['writing the root', () => write('/'), { code: FAILED, errno: 'EISDIR', path: '/' }],
      ['writing a fifo', () => write('/fifo'), { code: FAILED, errno: 'EINVAL', path: '/fifo' }],
      ['writing into a file', () => write('/etc/passwd/x'), { code: FAILED, errno: 'ENOTDIR' }],
      ['writing where nothing can be', () => write('/proc/new'), { code: FAILED, errno: 'ENOENT' }],
      ['writing what is read-only', () => write('/sys/fs/cgroup/new'), { code: FAILED, errno: 'EROFS' }],
      ['writing more than fits', () => write('/full/file', content), { code: FAILED, errno: 'ENOSPC' }],
      [
        'unpacking more than fits',
        () => tar('/full', makeTar([{ name: 'file', content: content.subarray(0, 3 * MIB) }])),
        { code: FAILED, errno: 'ENOSPC' },
      ],
      ['unpacking into a file', () => tar('/etc/passwd', makeTar([])), { code: FAILED, errno: 'ENOTDIR' }],
      [
        'unpacking what is none',
        () => tar('/x', content.subarray(0, 10_000)),
        { code: 'YAVM_E_GUEST_BAD_ARCHIVE' },
      ],
      [
        'unpacking half of one',
        () => tar('/x', makeTar([{ name: 'file', content: content.subarray(0, 10_000) }]).subarray(0, 5000)),
        { code: 'YAVM_E_GUEST_BAD_ARCHIVE' },
      ],
    ];
    const descriptors = 'ls /proc/1/fd | wc -l; ls -d /sys/fs/cgroup/yavm/*/ | wc -l';
    const before = await shell(vm, descriptors);
    for (let round = 0; round < count(20); round++) {
      for (const [what, work, error] of cases) await t.rejects(work(), error, what);
    }
    t.equal(
      await shell(vm, 'ls -A /full /x /directory'),
      '/directory:\n\n/full:\n\n/x:\n',
      'nothing is left behind',
    );
    t.equal(await shell(vm, descriptors), before, 'nor in the agent');
  });
}

async function interrupted(t: Test, vm: Vm): Promise<void> {
  const size = 4_000_000;
  await vm.writeFiles('/big', [content.subarray(0, size)]);

  t.test('a slow reader gets all of it, and holds nobody else up', async (t) => {
    const back = new Collector();
    let resume = () => {};
    const paused = new Promise<void>((resolve) => {
      resume = resolve;
    });
    const reading = vm.readFiles('/big', (piece) => {
      back.sink(piece);
      return paused;
    });
    await eventually('it has begun', () => back.bytes > 0);
    const other = await read(vm, '/big');
    t.equal(sha256(other), sha256(content.subarray(0, size)));
    t.equal(await shell(vm, 'echo another'), 'another\n');
    t.ok((await vm.stats()).memory.agent < 8 * MIB);
    resume();
    t.match(await reading, { bytes: size });
    t.match(back.collected(), { sha256: sha256(content.subarray(0, size)) });
  });

  t.test('a slow source is waited for', async (t) => {
    async function* slow() {
      for (let at = 0; at < size; at += size / 4) {
        yield content.subarray(at, at + size / 4);
        await sleep(300);
      }
    }
    t.match(await vm.writeFiles('/slow', slow()), { bytes: size });
    t.equal(await shell(vm, 'sha256sum </slow'), `${sha256(content.subarray(0, size))}  -\n`);
  });

  t.test('a reader that fails, or gives up, ends its transfer, and that alone', async (t) => {
    for (let round = 0; round < count(20); round++) {
      const failing = vm.readFiles('/big', () => {
        throw new Error('the disk is full');
      });
      await t.rejects(failing, /the disk is full/);
      const stop = new AbortController();
      const stopped = vm.readFiles('/big', () => stop.abort(new Error('enough')), { signal: stop.signal });
      await t.rejects(stopped, /enough/);
    }
    t.equal(sha256(await read(vm, '/big')), sha256(content.subarray(0, size)));
    await nothingRunsOn(vm);
  });

  t.test('a source that fails, or gives up, changes nothing', async (t) => {
    await shell(vm, 'mkdir -p /given/up; echo old >/given/up/file');
    async function* failing() {
      yield content.subarray(0, 1_000_000);
      throw new Error('the source is gone');
    }
    for (let round = 0; round < count(20); round++) {
      await t.rejects(vm.writeFiles('/given/up/file', failing()), /the source is gone/);
      await t.rejects(vm.writeFiles('/given/up/new', failing()), /the source is gone/);
      const stop = new AbortController();
      async function* endless() {
        for (let number = 0; ; number++) {
          if (number === 20) stop.abort(new Error('enough'));
          yield content.subarray(0, 100_000);
        }
      }
      await t.rejects(vm.writeFiles('/given/up/file', endless(), { signal: stop.signal }), /enough/);
      const tar = makeTar([{ name: 'half', content: content.subarray(0, 2_000_000) }]).subarray(0, 1_000_000);
      const broken = new AbortController();
      setTimeout(() => broken.abort(new Error('enough')), 50);
      const half = vm.writeFiles('/given/up', stalled(tar), { format: 'tar', signal: broken.signal });
      await t.rejects(half, /enough/);
    }
    await nothingRunsOn(vm);
    t.equal(await shell(vm, 'ls -A /given/up; cat /given/up/file'), 'file\nold\n');
  });
}

/** The bytes, and then nothing, not even its end. */
async function* stalled(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
  await new Promise(() => {});
}

async function nothingRunsOn(vm: Vm): Promise<void> {
  await eventually('no transfer is left', async () => {
    return !(await shell(vm, 'ps -o args')).includes('--role files');
  });
}
