/** `ya-vm boot-test` with real VMs: images, initramfs with and without an agent, and the commands of docs/ci.md. */
import { spawnSync } from 'node:child_process';
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import t from 'tap';
import { fetchBusybox } from '../../build/busybox.ts';
import { packCpio } from '../../initramfs/cpio.ts';
import { ciFiles } from '../lib/ci-page.ts';
import { DEMO_IMAGE, privateEnvironment } from '../lib/vm.ts';
import { ACCEL, LAUNCHER, runCli } from '../lib/ya-vm.ts';

/** For several boots under TCG on a busy machine, milliseconds. */
const DEADLINE = 300_000;
t.setTimeout(0);
const env = privateEnvironment(t);

t.test('images that pass and fail, with all that is kept', async (t) => {
  const folder = t.testdir({ 'no.gvmi': 'not an image' });
  const keep = join(folder, 'kept');
  const files = [DEMO_IMAGE, join(folder, 'no.gvmi')];
  const words = ['boot-test', ...files, ...ACCEL, '--expect', 'Linux', '--keep', keep, '--', 'uname', '-s'];
  const first = await runCli(t, words, { env, deadline: DEADLINE });
  t.equal(first.code, 1, first.stderr);
  t.match(first.stdout.toString(), /^TAP version 14\n1\.\.2\nok 1 - [\s\S]*\nnot ok 2 - .*no\.gvmi/);
  t.match(first.stdout.toString(), /YAVM_E_IMAGE_FORMAT/);
  const failing = [
    'boot-test',
    DEMO_IMAGE,
    ...ACCEL,
    '--console',
    '--expect',
    'Run /init',
    '--expect',
    'never',
  ];
  const shell = ['--keep', keep, '--format', 'plain', '--', 'sh', '-c', 'echo said; exit 4'];
  const second = await runCli(t, [...failing, ...shell], { env, deadline: DEADLINE });
  t.equal(second.code, 1, second.stderr);
  const text = second.stdout.toString();
  t.match(text, /exit code 4\n.*the console did not say "never"/);
  t.notMatch(text, /did not say "Run/);
  t.match(readFileSync(join(keep, '1-demo.gvmi/stdout.txt'), 'utf8'), /^said$/m);
  t.match(readFileSync(join(keep, '1-demo.gvmi/console.log'), 'utf8'), /Linux version/);
});

t.test("ya-vm's own initramfs, somebody else's, and one that panics", async (t) => {
  const folder = t.testdir();
  const script = (line: string) => `#!/bin/busybox sh\n${line}\n`;
  const busybox = readFileSync(await fetchBusybox());
  const pack = (name: string, line: string) => {
    const path = join(folder, name);
    const init = { type: 'file', path: '/init', mode: 0o755, data: Buffer.from(script(line)) } as const;
    const program = { type: 'file', path: '/bin/busybox', mode: 0o755, data: busybox } as const;
    const node = { type: 'character', path: '/dev/console', mode: 0o600, major: 5, minor: 1 } as const;
    writeFileSync(path, packCpio([init, program, node]));
    return path;
  };
  const ours = resolve('build/out/initramfs.cpio.zst');
  const foreign = pack('foreign.cpio', 'echo "login: here"; /bin/busybox sleep 1000');
  const dies = pack('dies.cpio', 'echo "login: once"; exit 1');
  const expect = ['--expect', 'login: '];
  const own = await runCli(t, ['boot-test', ours, ...ACCEL, '--', 'true'], { env, deadline: DEADLINE });
  t.equal(own.code, 0, own.stdout.toString());
  const passes = await runCli(t, ['boot-test', foreign, ...ACCEL, ...expect], { env, deadline: DEADLINE });
  t.equal(passes.code, 0, passes.stdout.toString());
  const words = [
    'boot-test',
    dies,
    ...ACCEL,
    ...expect,
    '--expect',
    'more',
    '--kernel',
    resolve('build/out/vmlinux'),
  ];
  const fails = await runCli(t, words, { env, deadline: DEADLINE });
  t.equal(fails.code, 1);
  t.match(fails.stdout.toString(), /the kernel panicked: Attempted to kill init!.*did not say \\"more\\"/);
});

t.test('the emulated variants of docs/ci.md, as they stand there', async (t) => {
  const folder = t.testdir({ bin: {}, rootfs: { bin: {} } });
  symlinkSync(LAUNCHER, join(folder, 'bin/ya-vm'));
  cpSync(await fetchBusybox(), join(folder, 'rootfs/bin/true'));
  chmodSync(join(folder, 'rootfs/bin/true'), 0o755);
  mkdirSync(join(folder, 'rootfs/tmp'));
  const emulated = ciFiles().map(({ lines }) => lines.filter((line) => line.startsWith('ya-vm ')));
  const tcg = emulated.filter((lines) => lines.some((line) => line.includes('--accel tcg')));
  t.equal(tcg.length, 2);
  // Both have the same lines: once is enough.
  t.same(tcg[0], tcg[1]);
  const input = ['set -e', ...(tcg[0] ?? [])].join('\n');
  const path = `${join(folder, 'bin')}:${env.PATH ?? process.env.PATH}`;
  const ran = spawnSync('bash', [], {
    ...{ input, cwd: folder, env: { ...env, PATH: path }, encoding: 'utf8', timeout: DEADLINE },
  });
  t.equal(ran.status, 0, `${ran.stdout}${ran.stderr}`);
  t.match(readFileSync(join(folder, 'junit.xml'), 'utf8'), /tests="1" failures="0" errors="0"/);
  t.notOk(existsSync(join(folder, 'boot-test-logs')));
});
