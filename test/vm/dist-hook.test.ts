/** The packaged program builds an initramfs with a hook, signs it, and boots it as signed; it has neither a checkout nor esbuild. */
import { appendFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { fetchKernel } from '../../build/kernel.ts';
import { notPackaged, PROGRAM } from '../lib/packaged.ts';
import { writeKeys } from '../lib/signing-keys.ts';
import { privateEnvironment } from '../lib/vm.ts';
import { ACCEL, runCli } from '../lib/ya-vm.ts';

t.setTimeout(300_000);

t.test('hook and signature', { skip: notPackaged() }, async (t) => {
  const env = privateEnvironment(t);
  const folder = env.XDG_RUNTIME_DIR as string;
  const { key, trusted } = writeKeys(folder, 'mine');
  const kernel = await fetchKernel();
  // There, so that paths may be relative.
  const through = ['sh', '-c', `cd '${folder}'; shift; exec "$0" "$@"`, PROGRAM];
  const run = (words: string[], more: Record<string, string> = {}) =>
    runCli(t, words, { env: { ...env, ...more }, through });
  const build = (hook: string, text: string) => {
    writeFileSync(join(folder, hook), text);
    const from = ['--kernel', kernel.image, '--modules', kernel.modules.folder];
    return run(['initramfs', 'build', ...from, '--hook', hook, '--sign', key, '--output', 'hooked']);
  };

  t.match(await build('wrong.ts', 'export function afterHello() {\n  const a = ;\n}\n'), {
    code: 125,
    stderr: /^ya-vm: wrong\.ts:2: .*YAVM_E_INITRAMFS_HOOK\)/,
  });
  const text =
    "export function afterConfigure(hook: any): void {\n  hook.task.write('/etc/hooked', 'yes');\n}\n";
  t.match(await build('hook.ts', text), { code: 0, stderr: '' });
  t.match(await run(['initramfs', 'verify', 'hooked', '--key', trusted]), { code: 0, stderr: '' });
  const boot = ['run', ...ACCEL, '--kernel', 'hooked/vmlinux', '--initramfs', 'hooked/initramfs.cpio.zst'];
  const asked = { YA_VM_KERNEL_KEY: 'mine.pem' };
  const booted = await run([...boot, '--', 'cat', '/etc/hooked'], asked);
  t.match(booted, { code: 0, stderr: '' });
  t.equal(booted.stdout.toString(), 'yes');
  appendFileSync(join(folder, 'hooked/initramfs.cpio.zst'), 'x');
  t.match(await run([...boot, '--', 'true'], asked), { code: 125, stderr: /YAVM_E_KERNEL_SIGNATURE/ });
});
