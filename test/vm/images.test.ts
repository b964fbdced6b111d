/** Images: real ones, layers, what their configuration decides, and every kind of damage. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { fetchBusybox } from '../../build/busybox.ts';
import { verifyImage } from '../../host/image/verify.ts';
import { ALPINE_IMAGE, makeImage, withoutAlpine } from '../lib/images.ts';
import { Random } from '../lib/random.ts';
import { count } from '../lib/scale.ts';
import { DEMO_IMAGE, privateEnvironment, run, shell, startTestVm } from '../lib/vm.ts';
import { ACCEL, reportOf, runCli } from '../lib/ya-vm.ts';

t.setTimeout(0);
const random = new Random();
t.comment(`seed ${random.seed} (YAVM_SEED)`);
const env = privateEnvironment(t);
const folder = env.XDG_RUNTIME_DIR as string;

/** Bytes of a readable file that compress well, so that damage in its blocks cannot go unnoticed. */
const BIG = 'a line of text that compresses well, number '.repeat(40_000);

t.test('alpine.gvmi, as gvmkit-build made it', { skip: withoutAlpine }, async (t) => {
  const { config } = await verifyImage(ALPINE_IMAGE);
  const vm = await startTestVm(t, { layers: [ALPINE_IMAGE] });
  t.match(await shell(vm, '. /etc/os-release && echo $ID'), /^alpine\n$/);
  t.match((await run(vm, ['apk', '--version'])).stdout.text, /^apk-tools /, 'its programs and libraries run');
  const listed = await shell(vm, 'find / -xdev | wc -l; find / -xdev -type f -exec cat {} + | wc -c');
  const [entries, bytes] = listed.trim().split('\n').map(Number) as [number, number];
  t.ok(entries > 400 && bytes > 5e6, `all of it can be read: ${entries} entries, ${bytes} bytes`);
  await shell(
    vm,
    'echo changed >/etc/os-release && adduser -D tester && su tester -c "id -un" | grep tester',
  );
  const { stdout } = await runCli(t, ['run', ...ACCEL, '--image', ALPINE_IMAGE, '--', 'env'], { env });
  for (const entry of config?.env ?? []) t.match(stdout.toString(), entry, `its environment has ${entry}`);
});

t.test('layers: the top hides what is beneath, and shows the rest', async (t) => {
  const [top, middle] = [join(folder, 'top.squashfs'), join(folder, 'middle.squashfs')];
  makeImage(top, { files: { 'etc/os-release': 'ID=top\n', 'etc/top': 'top\n' }, compressor: 'zstd' });
  makeImage(middle, {
    files: { 'etc/os-release': 'ID=middle\n', 'etc/middle': 'middle\n', 'opt/only': 'middle\n' },
    // A whiteout, as overlayfs keeps what was deleted.
    pseudo: ['etc/shells c 600 0 0 0 0'],
    compressor: 'xz',
  });
  const vm = await startTestVm(t, { layers: [top, middle, DEMO_IMAGE] });
  t.equal(
    await shell(vm, 'cat /etc/os-release /etc/top /etc/middle /opt/only'),
    'ID=top\ntop\nmiddle\nmiddle\n',
  );
  t.match(await shell(vm, 'cat /etc/passwd'), /^root:/, 'what only the lowest has is there');
  t.equal((await run(vm, ['cat', '/etc/shells'])).result.exitCode, 1, 'what a layer deleted is gone');
  await shell(vm, 'mv /opt /moved && rm /etc/top && echo new >/etc/top');
  t.equal(await shell(vm, 'cat /moved/only /etc/top'), 'middle\nnew\n', 'and all can be changed');
});

t.test("what an image's configuration says about commands", async (t) => {
  const image = join(folder, 'configured.gvmi');
  makeImage(image, {
    files: {
      'bin/busybox': readFileSync(await fetchBusybox()),
      'etc/passwd': 'root:x:0:0:root:/root:/bin/sh\nworker:x:1234:77:worker:/home/worker:/bin/sh\n',
      'etc/group': 'root:x:0:\nstaff:x:77:\nextra:x:88:worker\n',
      'srv/work/here': 'yes\n',
    },
    pseudo: ['bin/busybox m 755 0 0', ...['sh', 'id', 'cat'].map((name) => `bin/${name} s 777 0 0 busybox`)],
    config: {
      Env: ['PATH=/bin', 'FROM=image', 'BOTH=image'],
      Entrypoint: ['/bin/sh', '-c', 'echo "$FROM $BOTH $HOME $0 $*"; id; cat here'],
      Cmd: ['zero', 'one', 'two words'],
      WorkingDir: '/srv/work',
      User: 'worker',
    },
  });
  const run = (...words: string[]) => runCli(t, ['run', ...ACCEL, '--image', image, ...words], { env });
  const own = await run();
  t.equal(own.code, 0, own.stderr);
  t.equal(
    own.stdout.toString(),
    'image image /home/worker zero one two words\nuid=1234(worker) gid=77(staff) groups=77(staff),88(extra)\nyes\n',
  );
  const changed = await run(
    '-e',
    'BOTH=option',
    '-u',
    '0',
    '-w',
    '/',
    '--entrypoint',
    '',
    '--',
    'sh',
    '-c',
    'echo $FROM $BOTH $PWD; id -u',
  );
  t.equal(changed.code, 0, changed.stderr);
  t.equal(changed.stdout.toString(), 'image option /\n0\n');
});

t.test('files that are no whole image are refused before anything is started', async (t) => {
  const demo = readFileSync(DEMO_IMAGE);
  const flipped = (at: number) => {
    const bytes = Buffer.from(demo);
    bytes[at] = (bytes[at] as number) ^ 1;
    return bytes;
  };
  const superblock = demo.readBigUInt64LE(40);
  const files: [name: string, content: Uint8Array, code: string][] = [
    ['empty', Buffer.alloc(0), 'FORMAT'],
    ['text', Buffer.from('#!/bin/sh\necho not an image\n'), 'FORMAT'],
    ['random', random.bytes(100_000), 'FORMAT'],
    ['gzip', Buffer.concat([Buffer.from([0x1f, 0x8b, 8, 0]), random.bytes(1000)]), 'ARCHIVE'],
    ['cut in the superblock', demo.subarray(0, 50), 'TRUNCATED'],
    ['cut in the data', demo.subarray(0, demo.length >> 1), 'TRUNCATED'],
    ['cut in the last table', demo.subarray(0, Number(superblock) - 1), 'TRUNCATED'],
    ['cut in the metadata', demo.subarray(0, demo.length - 20), 'TRUNCATED'],
    ['magic flipped', flipped(0), 'FORMAT'],
    ['version flipped', flipped(28), 'FORMAT'],
    ['block size flipped', flipped(13), 'FORMAT'],
    ['length flipped', flipped(44), 'TRUNCATED'],
    ['metadata flipped', flipped(demo.length - 30), 'CHECKSUM'],
  ];
  for (const [name, content, code] of files) {
    const path = join(folder, 'damaged.gvmi');
    writeFileSync(path, content);
    const result = await runCli(t, ['run', ...ACCEL, '--json', '--image', path, '--', 'true'], { env });
    t.equal(result.code, 125, `${name}: exit code`);
    t.match(result.stderr, `YAVM_E_IMAGE_${code}`, name);
    t.match(reportOf(result), { vm: null, phases: [], error: { code: `YAVM_E_IMAGE_${code}` } });
    t.equal(result.stdout.length, 0);
  }
  const missing = await runCli(t, ['run', '--image', join(folder, 'none.gvmi'), '--', 'true'], { env });
  t.equal(missing.code, 125);
  t.match(missing.stderr, /none\.gvmi: .*ENOENT.*YAVM_E_IMAGE_UNREADABLE/);
});

t.test('damage that only the guest can see', async (t) => {
  const image = join(folder, 'big.squashfs');
  makeImage(image, { files: { big: BIG, small: 'small\n' } });
  const whole = readFileSync(image);
  const inodes = Number(whole.readBigUInt64LE(64));
  const directories = Number(whole.readBigUInt64LE(72));

  await t.test('in its tables: the mount fails, and says of which layer', async (t) => {
    const bytes = Buffer.from(whole).fill(0xff, inodes, directories);
    writeFileSync(image, bytes);
    const words = ['run', ...ACCEL, '--image', image, '--image', DEMO_IMAGE, '--', 'true'];
    const result = await runCli(t, words, { env });
    t.equal(result.code, 125);
    t.match(result.stderr, /^ya-vm: cannot mount layer 0 .*squashfs.*\(YAVM_E_GUEST_MOUNT_FAILED\)/);
  });

  await t.test('in its data: reading it is an I/O error, and the VM goes on', async (t) => {
    const bytes = Buffer.from(whole).fill(0xff, 96 + 200, inodes - 200);
    writeFileSync(image, bytes);
    const vm = await startTestVm(t, { layers: [image, DEMO_IMAGE] });
    const { result, stderr } = await run(vm, ['cat', '/big']);
    t.equal(result.exitCode, 1);
    t.match(stderr.text, /(I\/O|Input\/output) error/);
    t.equal(await shell(vm, 'echo on'), 'on\n');
  });
});

t.test('an image with flipped bits anywhere: a clear error, or a VM that goes on', async (t) => {
  const demo = readFileSync(DEMO_IMAGE);
  const end = Number(demo.readBigUInt64LE(40));
  for (let round = 0; round < count(40); round++) {
    const bytes = Buffer.from(demo);
    const places = Array.from({ length: random.between(1, 40) }, () => random.between(96, end));
    for (const at of places) bytes[at] = (bytes[at] as number) ^ (1 << random.between(0, 8));
    const path = join(folder, 'flipped.gvmi');
    writeFileSync(path, bytes);
    // Everything of the image is read, whatever can be; a shell that cannot even start is an error with a code.
    const script = 'find / -xdev -type f -exec cat {} + >/dev/null; echo read';
    const words = ['run', ...ACCEL, '--timeout', '60s', '--json', '--image', path, '--', 'sh', '-c', script];
    const result = await runCli(t, words, { env });
    const report = reportOf(result);
    const error = report.error as { code: string } | null;
    const story = `${places.length} bits: exit code ${result.code}${error ? `, ${error.code}` : ''}`;
    if (error) t.match(error.code, /^YAVM_E_(GUEST_(MOUNT|SPAWN)_FAILED|IMAGE_\w+)$/, story);
    else t.ok(report.result !== null && report.timedOut === false, story);
  }
});
