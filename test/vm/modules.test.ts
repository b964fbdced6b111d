/** The guest's module loader with a real kernel and real modules, some of them spoiled. */
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { Vm } from '../../host/runtime/index.ts';
import { findProgram } from '../../host/runtime/index.ts';
import { Qmp } from '../../host/runtime/qmp.ts';
import { buildModuleInitramfs, replaced, unsigned } from '../lib/module-initramfs.ts';
import { privateEnvironment, run, shell, startTestVm } from '../lib/vm.ts';

t.setTimeout(600_000);
const DEADLINE = 120_000;
const folder = privateEnvironment(t).XDG_RUNTIME_DIR as string;
const assets = await buildModuleInitramfs(folder, {
  modules: ['zram', 'isofs', 'loop', 'nbd', 'dummy', 'ifb', 'veth', 'virtio_scsi', 'sd_mod'],
  files: {
    '/etc/modprobe.d/test.conf': `# of a test
options zram num_devices=3
options loop max_loop=2
softdep isofs pre: nbd post: loop
install isofs /bin/false
`,
  },
  spoiled: {
    dummy: (module) => module.subarray(0, module.length >> 1),
    // The release alone is no reason for a kernel that compares each symbol's version.
    ifb: (module) => replaced(unsigned(module), ' mod_unload ', ' mod_unlaod '),
    veth: (module) => replaced(unsigned(module), 'register_netdevice\0', 'register_netdevicf\0'),
  },
});

/** Names of the modules that are loaded. */
async function loadedIn(vm: Vm): Promise<Set<string>> {
  return new Set((await shell(vm, 'cut -d" " -f1 /proc/modules')).trim().split('\n'));
}

/** Waits, in the VM, until a script succeeds. */
async function comes(t: Test, vm: Vm, script: string, what: string): Promise<void> {
  const loop = `for i in $(seq 300); do (${script}) && exit 0; sleep 0.2; done; exit 1`;
  const { result } = await run(vm, ['sh', '-c', loop], { deadline: DEADLINE });
  t.equal(result.exitCode, 0, what);
}

t.test('modules that are asked for: dependencies, soft ones around, options of both', async (t) => {
  const vm = await startTestVm(t, {
    assets,
    modules: {
      load: ['isofs', 'zram'],
      options: { loop: 'max_loop=5 max_part=3' },
      blacklist: ['virtio-rng'],
    },
  });
  const loaded = await loadedIn(vm);
  for (const name of ['isofs', 'cdrom', 'nbd', 'loop', 'zram', 'zsmalloc']) t.ok(loaded.has(name), name);
  t.equal(
    await shell(vm, 'cat /sys/module/loop/parameters/max_loop /sys/module/loop/parameters/max_part'),
    '5\n3\n',
    'the host’s come last',
  );
  t.equal(await shell(vm, 'ls -d /sys/block/zram* | wc -l'), '3\n', 'of modprobe.d');
  await comes(t, vm, 'grep -q "^pvpanic" /proc/modules', 'the walk has been');
  await comes(t, vm, 'grep -q "^tun" /proc/modules', 'modules without a device');
  t.notOk((await loadedIn(vm)).has('virtio_rng'), 'the blacklist is kept');
  t.notOk((await loadedIn(vm)).has('virtio_net'), 'no device, no driver');
});

for (const { name, errno, says } of [
  { name: 'dummy', errno: 'ENOEXEC', says: /'dummy'/ },
  { name: 'ifb', errno: 'ENOEXEC', says: /kernel: ifb: version magic '.*mod_unlaod/ },
  { name: 'veth', errno: 'ENOENT', says: /kernel: veth: Unknown symbol register_netdevicf/ },
  {
    name: 'nothing',
    errno: undefined,
    says: /'nothing' is neither in the initramfs nor built into the kernel/,
  },
]) {
  t.test(`a module that is refused: ${name}`, async (t) => {
    await t.rejects(startTestVm(t, { assets, modules: { load: [name] } }), {
      code: 'YAVM_E_GUEST_MODULE_FAILED',
      ...(errno ? { errno } : {}),
      message: says,
    });
  });
}

t.test('devices that are plugged in get their driver', async (t) => {
  const socket = join(folder, 'qmp');
  withHotPlug(t, socket);
  const vm = await startTestVm(t, { assets });
  await comes(t, vm, 'grep -q "^tun" /proc/modules', 'the agent has loaded what is there');
  const monitor = new Qmp(
    ({ buffer, callback }) => connect({ path: socket, onread: { buffer, callback } }),
    () => {},
  );
  t.teardown(() => monitor.close());
  await monitor.negotiate(DEADLINE);

  t.equal(
    (await loadedIn(vm)).has('virtio_net'),
    vm.start === 'template',
    'a template has it, for what may come',
  );
  await monitor.execute('netdev_add', { type: 'hubport', id: 'late', hubid: 9 });
  await monitor.execute('device_add', {
    driver: 'virtio-net-pci',
    netdev: 'late',
    bus: 'plug0',
    mac: '02:00:00:00:00:09',
    romfile: '',
  });
  await comes(t, vm, 'grep -q 02:00:00:00:00:09 /sys/class/net/*/address', 'a NIC');
  t.ok((await loadedIn(vm)).has('virtio_net'));

  const disk = { driver: 'null-co', size: 1 << 20, 'read-zeroes': true };
  await monitor.execute('blockdev-add', { ...disk, 'node-name': 'late0' });
  await monitor.execute('device_add', {
    driver: 'virtio-blk-pci',
    drive: 'late0',
    bus: 'plug1',
    serial: 'late',
  });
  await comes(t, vm, 'grep -q late /sys/block/vd*/serial', 'a disk');

  await monitor.execute('device_add', { driver: 'virtio-scsi-pci', id: 'scsi', bus: 'plug2' });
  await comes(t, vm, 'grep -q "^virtio_scsi" /proc/modules', 'a host adapter');
  await monitor.execute('blockdev-add', { ...disk, 'node-name': 'late1' });
  await monitor.execute('device_add', { driver: 'scsi-hd', drive: 'late1', bus: 'scsi.0' });
  await comes(t, vm, 'test -b /dev/sda || test -e /sys/block/sda', 'a disk of it, by a second driver');
});

/** From now on QEMU has three root ports and a monitor of the test's, by a program before it on PATH. */
function withHotPlug(t: Test, socket: string): void {
  const bin = join(folder, 'bin');
  const before = process.env.PATH;
  mkdirSync(bin);
  const ports = [0x11, 0x12, 0x13].map(
    (slot, index) =>
      `-device pcie-root-port,id=plug${index},chassis=${slot},bus=pcie.0,addr=${slot.toString(16)}`,
  );
  const script = `#!/bin/sh\nexec ${findProgram('qemu-system-x86_64')} "$@" ${ports.join(' ')} -qmp unix:${socket},server=on,wait=off\n`;
  writeFileSync(join(bin, 'qemu-system-x86_64'), script, { mode: 0o755 });
  // QEMU may run as nobody, and makes the socket here.
  chmodSync(folder, 0o777);
  process.env.PATH = `${bin}:${before}`;
  t.teardown(() => {
    process.env.PATH = before;
  });
}
