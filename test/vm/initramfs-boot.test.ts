/** The builder's products boot: PVH kernel, initramfs with its modules, and the virtio-serial port they lead to. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { fetchBusybox } from '../../build/busybox.ts';
import { buildDemoImage } from '../../build/demo-image.ts';
import { buildFloor, FLOOR_BYTE, FLOOR_PORT } from '../../build/floor.ts';
import { fetchKernel } from '../../build/kernel.ts';
import { PORTS } from '../../guest/protocol/messages.ts';
import { buildInitramfs } from '../../initramfs/build.ts';
import { MODULES } from '../../initramfs/modules/table.ts';

/** A boot takes 2–3 s under TCG on a free machine. */
const DEADLINE = 90_000;

interface Boot {
  /** What the guest wrote to the port, and to its console. */
  port: Buffer;
  console: string;
}

/** Boots until `done` says so; always ends QEMU. */
function boot(
  folder: string,
  initramfs: string,
  disk: string | null,
  done: (seen: Boot) => boolean,
): Promise<Boot> {
  const socket = join(folder, 'port.sock');
  const seen: Boot = { port: Buffer.alloc(0), console: '' };
  return new Promise((resolve, reject) => {
    let qemu: ChildProcess | undefined;
    const finish = (error?: Error) => {
      clearTimeout(timer);
      qemu?.kill('SIGKILL');
      server.close();
      if (error) reject(error);
      else resolve(seen);
    };
    const check = () => done(seen) && finish();
    const timer = setTimeout(
      () => finish(new Error(`not within ${DEADLINE} ms; console:\n${seen.console}`)),
      DEADLINE,
    );
    const server = createServer((connection) => {
      connection.on('error', () => {});
      connection.on('data', (bytes) => {
        seen.port = Buffer.concat([seen.port, bytes]);
        check();
      });
    });
    server.listen(socket, () => {
      qemu = spawn('qemu-system-x86_64', qemuArguments(folder, initramfs, socket, disk), {
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      for (const stream of [qemu.stdout, qemu.stderr])
        stream?.on('data', (bytes: Buffer) => {
          seen.console += bytes.toString('latin1');
          check();
        });
      qemu.on('error', finish);
      qemu.on('exit', (code) => finish(new Error(`QEMU ended (${code}); console:\n${seen.console}`)));
    });
  });
}

function qemuArguments(folder: string, initramfs: string, socket: string, disk: string | null): string[] {
  const words = ['console=ttyS0', 'panic=-1', 'cryptomgr.notests', `tsc_early_khz=${hostKhz()}`];
  return [
    ...['-machine', 'q35,accel=tcg', '-cpu', 'max', '-m', '256', '-smp', '1'],
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot', '-serial', 'stdio'],
    ...['-kernel', join(folder, 'vmlinux'), '-initrd', initramfs, '-append', words.join(' ')],
    ...['-device', 'virtio-serial-pci', '-chardev', `socket,id=port,path=${socket}`],
    ...['-device', `virtserialport,chardev=port,name=${FLOOR_PORT}`],
    ...(disk ? ['-drive', `file=${disk},format=raw,if=virtio,readonly=on`] : []),
  ];
}

function hostKhz(): number {
  const megahertz = /^cpu MHz\s*:\s*([\d.]+)/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1] ?? '2000';
  return Math.round(Number(megahertz) * 1000);
}

t.test('a built initramfs', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'ya-vm-test-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const kernel = await fetchKernel();

  t.test(
    'loads every module that it carries, by its own modules.dep alone, and mounts the demo image',
    async (t) => {
      const script = `#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t devtmpfs dev /dev
cd /lib/modules/${kernel.modules.release}
while IFS=': ' read -r module dependencies; do
  order=
  for each in $dependencies; do order="$each $order"; done
  for each in $order $module; do
    $b grep -q "^\${each%.ko} " /proc/modules || $b insmod $each || echo "FAILED $each"
  done
done <modules.dep
$b mount -t squashfs -o ro /dev/vda /mnt && $b grep ^PRETTY_NAME /mnt/etc/os-release
echo "LOADED $($b wc -l </proc/modules)"
$b poweroff -f
`;
      const manifest = await buildInitramfs({
        kernel,
        init: Buffer.from(script),
        files: [{ source: await fetchBusybox(), path: '/bin/busybox', mode: 0o755 }],
        outputs: { vmlinux: join(folder, 'vmlinux'), initramfs: join(folder, 'all.cpio.zst') },
        version: 'test',
      });
      const disk = join(folder, 'demo.gvmi');
      await buildDemoImage({ output: disk });
      const seen = await boot(folder, join(folder, 'all.cpio.zst'), disk, ({ console }) =>
        /LOADED \d+\r?\n/.test(console),
      );
      t.notMatch(seen.console, /FAILED|Unknown symbol|tainted|Invalid module/, 'none is refused');
      t.match(seen.console, 'ya-vm demo (busybox)');
      const loaded = Number(/LOADED (\d+)/.exec(seen.console)?.[1]);
      // A driver whose device the machine lacks stays loaded all the same.
      t.equal(loaded, manifest.modules.length, 'all are loaded');
      t.ok(loaded >= MODULES.filter(({ stage, optional }) => stage === 'hello' && !optional).length);
    },
  );

  t.test('reaches the control port by its name, with the modules of before hello', async (t) => {
    t.equal(FLOOR_PORT, PORTS.control);
    const manifest = await buildFloor(kernel, join(folder, 'floor.cpio.zst'));
    t.strictSame(
      manifest.modules.filter(({ stage }) => stage !== 'hello'),
      [],
    );
    const seen = await boot(folder, join(folder, 'floor.cpio.zst'), null, ({ port }) => port.length > 0);
    t.strictSame([...seen.port], [FLOOR_BYTE]);
  });
});
