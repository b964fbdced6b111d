/** Images built from docker's archives, OCI layouts, folders and tars, and what a VM sees of them: the same tree. */
import { createHash } from 'node:crypto';
import { chmodSync, mkdirSync, readdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import t, { type Test } from 'tap';
import { fetchBusybox } from '../../build/busybox.ts';
import { PACKERS } from '../../host/image/build/packers.ts';
import type { TarEntry } from '../../host/image/build/tar-index.ts';
import type { Vm } from '../../host/runtime/index.ts';
import {
  archiveOf,
  newDockerSave,
  ociLayout,
  oldDockerSave,
  type TestImage,
  writeFiles,
} from '../lib/container-archives.ts';
import { contentBytes, indexOf } from '../lib/flatten.ts';
import { alpineLike, debianLike, distrolessLike, hardTree, type TestTree } from '../lib/image-trees.ts';
import {
  block,
  character,
  directory,
  fifo,
  file,
  layerTar,
  symlink,
  type TreeItem,
} from '../lib/layer-tar.ts';
import { findProcesses } from '../lib/processes.ts';
import { Random } from '../lib/random.ts';
import { eventually } from '../lib/running.ts';
import { soak } from '../lib/scale.ts';
import { DEMO_IMAGE, privateEnvironment, run, shell, startTestVm } from '../lib/vm.ts';
import { ACCEL, reportOf, runCli, startCli } from '../lib/ya-vm.ts';

t.setTimeout(0);
const env = privateEnvironment(t);
const folder = env.XDG_RUNTIME_DIR as string;
const busybox = readFileSync(await fetchBusybox());

const imageOf = (name: string, { config, layers }: TestTree): TestImage => ({
  tags: [`${name}:1`],
  config,
  layers: layers.map((items) => layerTar(items)),
});

function put(name: string, bytes: Buffer): string {
  writeFileSync(join(folder, name), bytes);
  return join(folder, name);
}

async function build(t: Test, source: string, ...words: string[]): Promise<string> {
  const output = join(folder, 'built.gvmi');
  const result = await runCli(t, ['image', 'build', source, '--output', output, '--no-progress', ...words], {
    env,
  });
  t.equal(result.code, 0, result.stderr);
  return output;
}

/** What the guest mounts over, or keeps itself. */
const GUESTS_OWN = /^((dev|proc|sys|tmp|etc\/(hosts|resolv\.conf|hostname))(\/|$)|etc$)/;

const HANDED_ON = /^(user\.|security\.capability$)/;

/** Everything beneath the tops of `expected`, as the guest reads it: a tar with raw names, attributes and links. */
async function readBack(vm: Vm, expected: readonly TreeItem[]): Promise<Map<string, TarEntry>> {
  const tops = new Set(expected.map(({ path }) => path.split('/')[0] as string));
  const found = new Map<string, TarEntry>();
  for (const top of tops) {
    if (GUESTS_OWN.test(`${top}/`)) continue;
    const pieces: Buffer[] = [];
    const path = `/${Buffer.from(top, 'latin1').toString('utf8')}`;
    await vm.readFiles(path, (piece) => void pieces.push(Buffer.from(piece)), { format: 'tar' });
    for (const entry of await indexOf(Buffer.concat(pieces))) found.set(entry.name.replace(/\/$/, ''), entry);
  }
  return found;
}

async function checkTree(t: Test, vm: Vm, expected: readonly TreeItem[]): Promise<void> {
  const found = await readBack(vm, expected);
  const wrong: string[] = [];
  for (const item of expected) {
    if (GUESTS_OWN.test(item.path) || item.path === '.') continue;
    const entry = found.get(item.path);
    found.delete(item.path);
    const [is, should] = [entry ? factsOf(entry) : 'not there', factsOf(item)];
    if (is !== should) wrong.push(`${item.path}: ${is}, not ${should}`);
    if (entry && item.content && !contentBytes(entry.content).equals(item.content))
      wrong.push(`${item.path}: content`);
  }
  t.same(wrong, [], `all ${expected.length} are as they should be`);
  const more = [...found.values()].filter(({ type, name }) => type !== 'directory' && !GUESTS_OWN.test(name));
  t.same(
    more.map(({ name }) => name),
    [],
    'and nothing else is there',
  );
}

function factsOf(entry: TarEntry | TreeItem): string {
  const kind = 'type' in entry ? entry.type : entry.kind;
  const target = 'type' in entry ? entry.linkName : (entry.target ?? '');
  if (kind === 'hardlink') return `hard link to ${target}`;
  const { mode, uid, gid, mtime } = entry;
  const device = 'type' in entry ? [entry.major, entry.minor] : (entry.device ?? [0, 0]);
  // The guest hands on those that a tar of a task's may have; test/unit/image-build.test.ts looks at all.
  const raw =
    'type' in entry
      ? [...(entry.xattrs ?? [])]
      : Object.entries(entry.xattrs ?? {}).filter(([name]) => HANDED_ON.test(name));
  const xattrs = raw
    .map(([name, value]) => `${name}=${Buffer.from(value as string, 'latin1').toString('hex')}`)
    .sort();
  return JSON.stringify([
    kind,
    mode.toString(8),
    uid,
    gid,
    mtime,
    kind === 'symlink' ? target : '',
    device,
    xattrs,
  ]);
}

t.test('from docker save to a running VM in three commands', async (t) => {
  const archive = put('alpine.tar', archiveOf(oldDockerSave(imageOf('alpine', alpineLike(busybox)))));
  const image = await build(t, archive);
  const ran = await runCli(t, ['run', ...ACCEL, '--image', image], { env });
  t.equal(ran.code, 0, ran.stderr);
  t.equal(
    ran.stdout.toString(),
    'job\n/home/job/work/new\nalpine\ntool\n',
    'Entrypoint and Cmd, User, WorkingDir, Env, PATH',
  );
});

t.test('run takes archives as they are, and builds each once', async (t) => {
  const image = imageOf('alpine', alpineLike(busybox));
  const reference = `docker-archive:${put('many.tar', archiveOf(newDockerSave(['gzip'], image, { ...image, tags: ['other:2'] })))}`;
  const words = ['run', ...ACCEL, '--json', '--image', `${reference}:alpine:1`];
  const first = await runCli(t, words, { env });
  t.equal(first.stdout.toString(), 'job\n/home/job/work/new\nalpine\ntool\n', first.stderr);
  t.match(reportOf(first), { phases: [{ name: 'image' }] });
  const second = await runCli(t, [...words, '--', 'echo $0 from $FROM'], { env });
  t.equal(second.stdout.toString(), '/bin/sh from alpine\n', second.stderr);
  t.notMatch(reportOf(second), { phases: [{ name: 'image' }] }, 'it is there already');
  const open = await runCli(t, ['run', ...ACCEL, '--json', '--image', reference, '--', 'true'], { env });
  t.match(reportOf(open), {
    exitCode: 125,
    error: { code: 'YAVM_E_IMAGE_SOURCE', message: /alpine:1; other:2/ },
  });
});

t.test('Debian-like, from an OCI archive of gzip and zstd layers', async (t) => {
  const tree = debianLike(busybox);
  const image = await build(
    t,
    put('debian.tar', archiveOf(ociLayout(['gzip', 'zstd'], imageOf('debian', tree)))),
  );
  const vm = await startTestVm(t, { layers: [image] });
  await checkTree(t, vm, tree.expected);
  t.equal(
    await shell(vm, 'stat -c "%a %u:%g %F" /usr/bin/passwd /var/mail'),
    '4755 0:0 regular file\n2770 8:8 directory\n',
  );
});

t.test('distroless-like: no shell, no passwd, a number as user', async (t) => {
  const layout = join(folder, 'layout');
  mkdirSync(layout);
  writeFiles(layout, ociLayout(['zstd'], imageOf('distroless', distrolessLike(busybox))));
  const ran = await runCli(t, ['run', ...ACCEL, '--image', `oci:${layout}`], { env });
  t.equal(ran.stdout.toString(), 'uid=65532 gid=65532 groups=65532\n', ran.stderr);
  const vm = await runCli(
    t,
    [
      'run',
      ...ACCEL,
      '--image',
      layout,
      '--image',
      DEMO_IMAGE,
      '--entrypoint',
      '',
      '--',
      'sh',
      '-c',
      'pwd; id -u; ls /app /etc/ssl/certs',
    ],
    { env },
  );
  t.equal(vm.stdout.toString(), '/app\n65532\n/app:\nbusybox\n\n/etc/ssl/certs:\nca.crt\n', vm.stderr);
});

t.test('names of all bytes, holes, links, devices, attributes, and many files', async (t) => {
  const many = soak ? 100_000 : 2000;
  const tree = hardTree(many);
  const nodes = [
    character('nodes/null', 1, 3),
    block('nodes/loop', 7, 0xfffff),
    fifo('nodes/pipe', { mode: 0o622 }),
  ];
  const items = [...tree.expected, directory('nodes'), ...nodes];
  const image = await build(t, put('hard.tar.gz', gzipSync(layerTar(items), { level: 1 })));
  const vm = await startTestVm(t, { layers: [image, DEMO_IMAGE], memoryMiB: 512 });
  await checkTree(
    t,
    vm,
    items.filter(({ path }) => !path.startsWith('many/')),
  );
  const files = items.filter(({ path }) => path.startsWith('many/'));
  const lines = files.map(({ path, mode, content = Buffer.alloc(0) }) => {
    const hash = createHash('sha256').update(content).digest('hex');
    return `${hash} ${mode.toString(8)} ./${path.slice('many/'.length)}\n`;
  });
  const manifest = createHash('sha256').update(lines.sort().join('')).digest('hex');
  const script =
    'cd /many && find . -type f -exec sha256sum {} + | sort -k 2 >/tmp/a && find . -type f -exec stat -c "%n %a" {} + | sort >/tmp/b && ' +
    `paste -d " " /tmp/a /tmp/b | awk '{ print $1, $4, $3 }' | LC_ALL=C sort | sha256sum`;
  t.equal(
    await shell(vm, script, { deadline: 1_800_000 }),
    `${manifest}  -\n`,
    `${many} files by a manifest made in the guest`,
  );
  t.equal(await shell(vm, 'stat -c %h /links/a; tail -c 3 /zeros'), '21\nend');
  const listed = await run(vm, ['find', '/names', '-type', 'f']);
  const expected = items.filter(({ path }) => path.startsWith('names/')).map(({ path }) => `/${path}`);
  t.same(
    listed.stdout.text.length > 0 && listed.stdout.bytes,
    Buffer.byteLength(expected.map((path) => `${path}\n`).join(''), 'latin1'),
  );
});

t.test('a folder: its files are root’s for who is not root; what is missing is made', async (t) => {
  const root = join(folder, 'rootfs');
  mkdirSync(join(root, 'bin'), { recursive: true });
  writeFileSync(join(root, 'bin/busybox'), busybox, { mode: 0o755 });
  writeFileSync(join(root, 'data'), 'data');
  chmodSync(root, 0o755);
  utimesSync(root, 1, 1_600_000_000);
  const words = [
    '--owner',
    'root',
    '--entrypoint',
    '["/bin/busybox","sh","-c"]',
    '--workdir',
    '/made/here',
    '--env',
    'A=b c',
  ];
  const image = await build(t, root, ...words);
  const ran = await runCli(
    t,
    ['run', ...ACCEL, '--image', image, '--', 'busybox stat -c "%U %u" /data; pwd; echo $A'],
    { env },
  );
  t.match(ran.stdout.toString(), /^(root|UNKNOWN) 0\n\/made\/here\nb c\n$/, ran.stderr);
  const direct = await runCli(
    t,
    ['run', ...ACCEL, '--image', root, '--cwd', '/new/too', '--', '/bin/busybox', 'pwd'],
    { env },
  );
  t.equal(direct.stdout.toString(), '/new/too\n', direct.stderr);
  writeFileSync(join(root, 'data'), 'changed');
  const changed = await runCli(t, ['run', ...ACCEL, '--image', root, '--', '/bin/busybox', 'cat', '/data'], {
    env,
  });
  t.equal(changed.stdout.toString(), 'changed', 'a folder that has changed is built again');
});

t.test('three built layers: the top hides what is beneath, whiteouts between images work', async (t) => {
  const layers: string[] = [];
  for (const [index, items] of [
    // An overlay's own form of a whiteout, which a plain tar keeps: layers of images made by hand have them.
    [
      file('etc/id', 'top'),
      character('etc/shells', 0, 0, { mode: 0 }),
      directory('opt', { xattrs: { 'trusted.overlay.opaque': 'y' } }),
      file('opt/top', ''),
    ],
    [file('etc/id', 'middle'), file('etc/middle', ''), file('opt/middle', '')],
  ].entries()) {
    const source = put(`layer-${index}.tar`, layerTar(items));
    const output = join(folder, `layer-${index}.gvmi`);
    const made = await runCli(
      t,
      ['image', 'build', source, '-o', output, '--no-progress', '--compressor', index === 0 ? 'lzo' : 'xz'],
      { env },
    );
    t.equal(made.code, 0, made.stderr);
    layers.push(output);
  }
  const vm = await startTestVm(t, { layers: [...layers, DEMO_IMAGE] });
  t.equal(
    await shell(
      vm,
      'cat /etc/id; ls /opt; test -e /etc/middle && test ! -e /etc/shells && test -e /etc/passwd && echo ok',
    ),
    'toptop\nok\n',
  );
});

t.test('an image of each compressor boots', async (t) => {
  const tar = put(
    'boot.tar',
    layerTar([file('bin/busybox', busybox, { mode: 0o755 }), symlink('bin/sh', 'busybox')]),
  );
  for (const compressor of PACKERS) {
    const image = await build(t, tar, '--compressor', compressor, '--cmd', 'echo booted');
    const ran = await runCli(t, ['run', ...ACCEL, '--image', image], { env });
    t.equal(ran.stdout.toString(), 'booted\n', `${compressor} ${ran.stderr}`);
  }
});

t.test('a build that is interrupted or killed', async (t) => {
  const place = join(folder, 'interrupted');
  const root = join(place, 'root');
  mkdirSync(root, { recursive: true });
  // More than a pipe and the page cache's read ahead: packing it takes xz a while.
  for (let index = 0; index < 60; index++)
    writeFileSync(join(root, `f${index}`), new Random(index + 1).bytes(500_000));
  const out = join(place, 'out.gvmi');
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGKILL'] as const) {
    const building = startCli(t, ['image', 'build', root, '-o', out, '--compressor', 'xz'], { env });
    const packing = () => readdirSync(place).some((name) => name.endsWith('.tmp'));
    await eventually('mksquashfs writes', packing);
    building.kill(signal);
    const ended = await building.ended();
    await eventually('mksquashfs is gone', () => findProcesses(env.XDG_CACHE_HOME as string).length === 0);
    if (signal === 'SIGKILL') {
      t.equal(ended.signal, signal);
      t.ok(packing(), 'it could not clean up');
    } else {
      t.equal(ended.code, signal === 'SIGINT' ? 130 : 143, ended.stderr);
      t.match(ended.stderr, /no image was made/);
      t.same(readdirSync(place), ['root']);
    }
  }
  const whole = await runCli(t, ['image', 'build', root, '-o', out, '--no-progress'], { env });
  t.equal(whole.code, 0, whole.stderr);
  t.same(readdirSync(place).sort(), ['out.gvmi', 'root'], 'what the killed one left is gone');
});
