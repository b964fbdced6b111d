/** The single program of `make dist`, from a folder that it cannot write, with nothing of the checkout beside it. */
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { withMounts } from '../lib/namespaces.ts';
import { PROGRAM } from '../lib/packaged.ts';
import { privateEnvironment, sha256 } from '../lib/vm.ts';
import { ACCEL, runCli } from '../lib/ya-vm.ts';

const root = process.getuid?.() === 0;
const skip = !existsSync(PROGRAM) && 'it is not built: make dist';

t.test('the single program', { skip }, async (t) => {
  const env = privateEnvironment(t);
  const folder = join(env.XDG_RUNTIME_DIR as string, 'program');
  mkdirSync(folder);
  const program = join(folder, 'ya-vm');
  copyFileSync(PROGRAM, program);
  chmodSync(folder, 0o555);
  t.teardown(() => chmodSync(folder, 0o755));
  const cache = join(env.XDG_RUNTIME_DIR as string, 'cache');
  const own = { ...env, XDG_CACHE_HOME: cache, YA_VM_ACCEL: 'tcg' };
  // The words after `sh -c` are the launcher's path, and what it is given.
  const through = ['sh', '-c', 'shift; exec "$0" "$@"', program];
  const hashOf = (id: string, name: string) => sha256(readFileSync(join(cache, 'ya-vm/dist', id, name)));
  const run = (...words: string[]) => runCli(t, words, { env: own, through });

  await t.test('a command', async (t) => {
    t.match(await run('run', ...ACCEL, '--', 'true'), { code: 0, stderr: '' });
    t.equal(readdirSync(join(cache, 'ya-vm/dist')).length, 1, 'unpacked once');
  });

  await t.test('another kernel in the cache is not booted', async (t) => {
    const [id] = readdirSync(join(cache, 'ya-vm/dist')) as [string];
    const vmlinux = hashOf(id, 'vmlinux');
    writeFileSync(join(cache, 'ya-vm/dist', id, 'vmlinux'), 'no kernel');
    t.match(await run('run', ...ACCEL, '--', 'true'), { code: 0, stderr: '' });
    t.equal(hashOf(id, 'vmlinux'), vmlinux, 'the right one is back');

    // The size stays, and the times are set back.
    const initramfs = join(cache, 'ya-vm/dist', id, 'initramfs.cpio.zst');
    const { atime, mtime } = statSync(initramfs);
    const bytes = readFileSync(initramfs);
    bytes.writeUInt8(bytes.readUInt8(9999) ^ 1, 9999);
    writeFileSync(initramfs, bytes);
    utimesSync(initramfs, atime, mtime);
    t.match(await run('run', ...ACCEL, '--', 'true'), { code: 0, stderr: '' });
    t.not(hashOf(id, 'initramfs.cpio.zst'), sha256(bytes), 'nor another initramfs');
  });

  await t.test('a provider: the offer, and an activity of its own', async (t) => {
    const offer = await run('offer-template');
    t.equal(offer.code, 0, offer.stderr);
    t.ok(JSON.parse(offer.stdout.toString()).properties);
    const script = join(env.XDG_RUNTIME_DIR as string, 'script.json');
    writeFileSync(
      script,
      JSON.stringify([
        { deploy: {} },
        { start: {} },
        { run: { entry_point: '/bin/true', args: [] } },
        { terminate: {} },
      ]),
    );
    const activity = await run('exec-script', ...ACCEL, script);
    t.equal(activity.code, 0, `it starts itself as the supervisor: ${activity.stderr}`);
  });

  await t.test('a full disk', { skip: !root && 'needs root, for a file system of its own' }, async (t) => {
    const disk = join(env.XDG_RUNTIME_DIR as string, 'full');
    mkdirSync(disk);
    // Room for the kernel's first half.
    const full = withMounts(`mount -t tmpfs -o size=20m full '${disk}'; exec "$@"`);
    const words = ['run', ...ACCEL, '--', 'true'];
    const result = await runCli(t, words, {
      env: { ...own, XDG_CACHE_HOME: disk },
      through: [...full, ...through],
    });
    t.match(result, { code: 125, stderr: /YAVM_E_DIST_FULL.*XDG_CACHE_HOME/s });
  });

  await t.test(
    'a home on a read-only disk',
    { skip: !root && 'needs root, for a file system of its own' },
    async (t) => {
      const disk = join(env.XDG_RUNTIME_DIR as string, 'read-only');
      mkdirSync(disk);
      const readOnly = withMounts(`mount -t tmpfs -o ro home '${disk}'; exec "$@"`);
      const words = ['run', ...ACCEL, '--', 'true'];
      const at = { ...own, XDG_CACHE_HOME: undefined, HOME: disk };
      const result = await runCli(t, words, { env: at, through: [...readOnly, ...through] });
      t.match(result, { code: 125, stderr: /read-only.*YAVM_E_DIST_FOLDER.*XDG_CACHE_HOME/s });
    },
  );

  await t.test('a home that cannot be written', async (t) => {
    const words = ['run', ...ACCEL, '--', 'true'];
    const result = await runCli(t, words, { env: { ...own, XDG_CACHE_HOME: '/proc' }, through });
    t.match(result, { code: 125, stderr: /YAVM_E_DIST_FOLDER/ });
  });

  rmSync(cache, { recursive: true });
});
