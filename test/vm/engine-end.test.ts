/** The end of a machine whose PID 1 failed: QEMU's exit code and the console tell why. */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { buildGuest } from '../../build/guest.ts';
import { readTscKhz } from '../../host/runtime/host-clock.ts';
import { SKELETON } from '../../initramfs/content.ts';
import { type Entry, packCpio } from '../../initramfs/cpio.ts';
import { builtFile } from '../lib/vm.ts';

/** A boot takes 1–2 s under TCG on a free machine. */
const DEADLINE = 90_000;
const DEBUG_EXIT = ['-device', 'isa-debug-exit,iobase=0xf4,iosize=0x04'];

const folder = mkdtempSync(join(tmpdir(), 'ya-vm-end-'));
t.teardown(() => rmSync(folder, { recursive: true }));
t.setTimeout(0);

interface End {
  code: number | null;
  console: string;
}

/** Boots `script` as PID 1 and waits for QEMU's end. */
async function boot(name: string, script: string, devices: string[]): Promise<End> {
  const entry = join(folder, `${name}.ts`);
  writeFileSync(entry, script);
  const init = await buildGuest({ entry, out: join(folder, `engine-end-${name}`), test: true });
  const entries: Entry[] = [
    ...SKELETON,
    { type: 'file', path: '/init', mode: 0o755, data: readFileSync(init) },
  ];
  const initramfs = join(folder, `${name}.cpio`);
  writeFileSync(initramfs, packCpio(entries));
  const words = ['console=ttyS0', 'quiet', 'panic=-1', 'cryptomgr.notests', `tsc_early_khz=${readTscKhz()}`];
  const args = [
    ...['-machine', 'q35,accel=tcg', '-cpu', 'max', '-m', '128', '-nodefaults', '-no-user-config'],
    ...['-display', 'none', '-no-reboot', '-serial', 'stdio', ...devices],
    ...['-kernel', builtFile('vmlinux'), '-initrd', initramfs, '-append', words.join(' ')],
  ];
  return new Promise((resolve, reject) => {
    const qemu = spawn('qemu-system-x86_64', args, { stdio: ['ignore', 'pipe', 'inherit'] });
    const timer = setTimeout(() => qemu.kill('SIGKILL'), DEADLINE);
    let output = '';
    qemu.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text.replaceAll('\r', '');
    });
    qemu.once('error', reject);
    qemu.once('close', (code) => {
      clearTimeout(timer);
      resolve({ code, console: output });
    });
  });
}

/** What QEMU exits with when its isa-debug-exit device is given `code`. */
function debugExit(code: number): number {
  return (code << 1) | 1;
}

const EXCEPTION = `
function deep(): never { throw new Error('boom', { cause: new RangeError('the reason') }); }
function work() { deep(); }
setTimeout(work, 10);
export {};
`;
const STACK =
  /uncaught exception: Error: boom\n +at deep \(init\.js:\d+:\d+\)\n +at work .*\ncaused by: RangeError: the reason\n/;

t.test('an uncaught exception', async (t) => {
  const end = await boot('exception', EXCEPTION, DEBUG_EXIT);
  t.equal(end.code, debugExit(70));
  t.match(end.console, STACK);
});

t.test('the same without an isa-debug-exit device: the machine is switched off', async (t) => {
  const end = await boot('off', EXCEPTION, []);
  t.equal(end.code, 0);
  t.match(end.console, STACK);
  t.match(end.console, 'reboot: Power down');
});

t.test('a crash of native code', async (t) => {
  const end = await boot(
    'crash',
    `declare const yavmNative: { kill(pid: number, signal: number): void };
     console.log('in PID 1');
     setTimeout(() => { yavmNative.kill(1, 11); for (;;); }, 10);`,
    DEBUG_EXIT,
  );
  t.equal(end.code, debugExit(71));
  t.match(end.console, /in PID 1\nya-vm: crash: SIGSEGV .*instruction 0x[0-9a-f]+\n/);
});

t.test('an exhausted heap', async (t) => {
  const grow =
    'const keep: object[] = []; function grow() { for (;;) keep.push({ at: keep.length }); } setTimeout(grow, 10);';
  const end = await boot('memory', grow, DEBUG_EXIT);
  t.equal(end.code, debugExit(72));
  t.match(end.console, /out of memory\n +at grow/);
});

t.test('exit() is refused: the kernel would panic', async (t) => {
  const end = await boot(
    'exit',
    'declare const yavmEngine: { exit(code: number): void }; yavmEngine.exit(0);',
    DEBUG_EXIT,
  );
  t.equal(end.code, debugExit(70));
  t.match(end.console, 'exit: PID 1 ends with its machine');
});
