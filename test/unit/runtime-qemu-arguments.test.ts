import t from 'tap';
import type { PublishedPort } from '../../host/network/types.ts';
import { hostTscKhz, kernelWords } from '../../host/runtime/kernel-words.ts';
import { PCI_SLOTS } from '../../host/runtime/pci-slots.ts';
import {
  escapeCommas,
  type NicArguments,
  type QemuSpec,
  qemuArguments,
} from '../../host/runtime/qemu-arguments.ts';
import { userNetworkArguments } from '../../host/runtime/user-network.ts';
import { QEMU_SPEC as SPEC } from '../lib/qemu-spec.ts';

const disk = (index: number) => ({
  serial: `disk${index}`,
  fd: 20 + index,
  readOnly: index > 0,
  durable: false,
  reserved: false,
});

const nic = (number: number, backend: NicArguments['backend'] = null): NicArguments => ({
  mac: `90:13:0a:00:00:0${number}`,
  backend,
});

/** Values of an option, in order. */
function values(args: string[], option: string): string[] {
  return args.flatMap((arg, index) => (arg === option ? [args[index + 1] as string] : []));
}

t.test('the whole command line of a small VM', async (t) => {
  const args = qemuArguments({ ...SPEC, disks: [disk(0), disk(1)], nics: [nic(1)] });
  t.strictSame(args.join(' ').split(' -').join('\n-').split('\n'), [
    '-name guest=vm',
    '-nodefaults',
    '-no-user-config',
    '-display none',
    '-no-reboot',
    '-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny',
    '-machine q35,vmport=off,smm=off,sata=off,smbus=off,dump-guest-core=off',
    '-accel tcg,thread=multi',
    '-cpu max',
    '-smp 2',
    '-m 512M',
    '-rtc base=utc',
    '-kernel /proc/self/fd/3',
    '-initrd /proc/self/fd/4',
    '-append quiet',
    '-add-fd fd=9,set=9',
    '-chardev pty,id=console,logfile=/dev/fdset/9,logappend=on',
    '-serial chardev:console',
    '-chardev socket,id=qmp,fd=8',
    '-mon chardev=qmp,mode=control',
    '-device virtio-serial-pci,id=serial0,max_ports=4,disable-legacy=on,bus=pcie.0,addr=0x1',
    '-chardev socket,id=control,fd=5',
    '-device virtserialport,bus=serial0.0,nr=1,chardev=control,name=yavm.control',
    '-chardev socket,id=data,fd=6',
    '-device virtserialport,bus=serial0.0,nr=2,chardev=data,name=yavm.data',
    '-chardev socket,id=log,fd=7',
    '-device virtserialport,bus=serial0.0,nr=3,chardev=log,name=yavm.log',
    '-object rng-builtin,id=rng0',
    '-device virtio-rng-pci,rng=rng0,disable-legacy=on,bus=pcie.0,addr=0x2',
    '-add-fd fd=20,set=20',
    '-blockdev driver=raw,node-name=disk0,read-only=off,discard=unmap,cache.no-flush=on,file.driver=file,file.filename=/dev/fdset/20',
    '-device virtio-blk-pci,drive=disk0,serial=disk0,werror=stop,rerror=report,disable-legacy=on,bus=pcie.0,addr=0x8',
    '-add-fd fd=21,set=21',
    '-blockdev driver=raw,node-name=disk1,read-only=on,cache.no-flush=on,file.driver=file,file.filename=/dev/fdset/21',
    '-device virtio-blk-pci,drive=disk1,serial=disk1,disable-legacy=on,bus=pcie.0,addr=0x9',
    '-netdev hubport,id=net0,hubid=0',
    '-device virtio-net-pci,netdev=net0,mac=90:13:0a:00:00:01,romfile=,disable-legacy=on,bus=pcie.0,addr=0x4',
    '-device pvpanic',
    '-device isa-debug-exit,iobase=0xf4,iosize=0x01',
  ]);
});

t.test('what differs by specification', async (t) => {
  const cases: [string, Partial<QemuSpec>, string, string][] = [
    ['KVM', { accel: 'kvm' }, '-accel', 'kvm'],
    ['a CPU model keeps its features', { cpuModel: 'max,-sgx' }, '-cpu', 'max,-sgx'],
    ['memory', { memoryMiB: 1536 }, '-m', '1536M'],
    ['a comma in the name is doubled', { name: 'a,b' }, '-name', 'guest=a,,b'],
    ['kernel words stay one argument', { kernelWords: 'a b,c' }, '-append', 'a b,c'],
  ];
  for (const [name, change, option, value] of cases) {
    t.strictSame(values(qemuArguments({ ...SPEC, ...change }), option), [value], name);
  }
  const [kept] = values(qemuArguments({ ...SPEC, disks: [{ ...disk(0), durable: true }] }), '-blockdev');
  t.match(kept, /cache\.no-flush=off/, 'a disk that is kept is flushed');
  const [held] = values(qemuArguments({ ...SPEC, disks: [{ ...disk(0), reserved: true }] }), '-blockdev');
  t.match(held, /discard=ignore/, 'one that has its room reserved keeps it');
});

t.test('folders of the host: the memory is shared then, and only then', async (t) => {
  const args = qemuArguments({ ...SPEC, shares: [{ kind: 'virtiofs', tag: 'share0', fd: 30 }] });
  t.strictSame(values(args, '-object'), [
    'memory-backend-memfd,id=memory,size=512M,share=on',
    'rng-builtin,id=rng0',
  ]);
  t.match(values(args, '-machine')[0], /,memory-backend=memory$/);
  t.ok(values(args, '-chardev').includes('socket,id=share0,fd=30'));
  t.ok(values(args, '-device').includes('vhost-user-fs-pci,chardev=share0,tag=share0,bus=pcie.0,addr=0x3'));
});

t.test("folders by QEMU's own 9p: with memory of its own, no path, and read-only where asked", async (t) => {
  const args = qemuArguments({
    ...SPEC,
    shares: [
      { kind: '9p', tag: 'share0', fd: 30 },
      { kind: '9p', tag: 'share1', fd: 31, readOnly: true },
    ],
  });
  t.strictSame(values(args, '-object'), ['rng-builtin,id=rng0']);
  t.notMatch(values(args, '-machine')[0], /memory-backend/);
  t.strictSame(values(args, '-fsdev'), [
    'local,id=share0,path=/proc/self/fd/30,security_model=none,multidevs=remap',
    'local,id=share1,path=/proc/self/fd/31,security_model=none,multidevs=remap,readonly=on',
  ]);
  t.ok(
    values(args, '-device').includes(
      'virtio-9p-pci,fsdev=share1,mount_tag=share1,disable-legacy=on,bus=pcie.0,addr=0x14',
    ),
  );
});

t.test('what a NIC is plugged into', async (t) => {
  const cases: [NicArguments['backend'], string][] = [
    [null, 'hubport,id=net0,hubid=0'],
    [{ kind: 'datagram', fd: 30 }, 'dgram,id=net0,local.type=fd,local.str=30'],
    [{ kind: 'stream', fd: 31 }, 'stream,id=net0,addr.type=fd,addr.str=31'],
    [{ kind: 'stream-listener', fd: 32 }, 'stream,id=net0,server=on,addr.type=fd,addr.str=32'],
  ];
  for (const [backend, expected] of cases) {
    const args = qemuArguments({ ...SPEC, nics: [nic(1, backend)] });
    t.strictSame(values(args, '-netdev'), [expected]);
    t.match(values(args, '-device').join('\n'), /virtio-net-pci,netdev=net0,mac=90:13:0a:00:00:01,/);
  }
  const both = qemuArguments({ ...SPEC, nics: [nic(1), nic(2, { kind: 'stream', fd: 31 })] });
  t.strictSame(values(both, '-netdev'), [
    'hubport,id=net0,hubid=0',
    'stream,id=net1,addr.type=fd,addr.str=31',
  ]);
});

t.test("QEMU's user network: beside the NICs, on a hub of its own", async (t) => {
  const published: PublishedPort[] = [
    { protocol: 'tcp', hostPort: 8080, guestPort: 80 },
    { protocol: 'udp', hostAddress: '127.0.0.1', hostPort: 5353, guestPort: 53 },
  ];
  const outside = { fd: 40, ipv6: true, published };
  const args = qemuArguments({ ...SPEC, nics: [nic(1), nic(2)], userNetwork: outside });
  t.strictSame(values(args, '-netdev').slice(2), [
    'user,id=outside,restrict=off,ipv4=on,net=10.42.42.0/24,host=10.42.42.1,dns=10.42.42.3,' +
      'ipv6=on,ipv6-prefix=fd42:42:42::,ipv6-prefixlen=64,ipv6-host=fd42:42:42::1,ipv6-dns=fd42:42:42::3,' +
      'hostfwd=tcp::8080-10.42.42.2:80,hostfwd=udp:127.0.0.1:5353-10.42.42.2:53',
    'hubport,id=outside-hub,hubid=2,netdev=outside',
    'stream,id=inside,addr.type=fd,addr.str=40',
    'hubport,id=inside-hub,hubid=2,netdev=inside',
  ]);
  t.notMatch(values(args, '-device').join('\n'), /netdev=(outside|inside)/, 'no NIC is plugged into it');
  const [without] = userNetworkArguments({ fd: 40, ipv6: false, published: [] }, 2).slice(1);
  t.equal(
    without,
    'user,id=outside,restrict=off,ipv4=on,net=10.42.42.0/24,host=10.42.42.1,dns=10.42.42.3,ipv6=off',
  );
  for (const hostAddress of ['::1', 'localhost', '1.2.3.4,smb=/']) {
    const published = [{ protocol: 'tcp', hostAddress, hostPort: 1, guestPort: 1 } as const];
    t.throws(() => userNetworkArguments({ ...outside, published }, 2), { code: 'YAVM_E_NET_PUBLISH' });
  }
});

t.test('a serial cannot add options', async (t) => {
  const args = qemuArguments({ ...SPEC, disks: [{ ...disk(0), serial: 'x,bus=evil' }] });
  t.ok(values(args, '-device').some((value) => value.includes('serial=x,,bus=evil,werror=')));
  t.equal(escapeCommas('a,b,,c'), 'a,,b,,,,c');
});

t.test('every device has a slot of its own, and no more devices than slots are taken', async (t) => {
  const full: QemuSpec = {
    ...SPEC,
    disks: Array.from({ length: 8 }, (_, index) => disk(index)),
    nics: [nic(1), nic(2)],
    shares: Array.from({ length: 12 }, (_, index) => ({
      kind: index % 2 === 0 ? ('virtiofs' as const) : ('9p' as const),
      tag: `share${index}`,
      fd: 40 + index,
    })),
  };
  const used = values(qemuArguments(full), '-device').flatMap(
    (value) => value.match(/addr=(0x[0-9a-f]+)/)?.[1] ?? [],
  );
  t.equal(used.length, 24);
  t.equal(new Set(used).size, used.length);
  const slots = Object.values(PCI_SLOTS).flat();
  t.equal(new Set(slots).size, slots.length, 'the table itself');
  t.ok(
    slots.every((slot) => slot > 0 && slot < 0x1f),
    'beside those of q35',
  );
  t.throws(() => qemuArguments({ ...full, disks: [...full.disks, disk(8)] }), RangeError);
  t.throws(
    () => qemuArguments({ ...full, shares: [...full.shares, { kind: '9p', tag: 'x', fd: 60 }] }),
    RangeError,
  );
  t.throws(() => qemuArguments({ ...full, nics: [...full.nics, nic(3)] }), RangeError);
});

t.test('kernel words', async (t) => {
  t.equal(
    kernelWords('kvm', undefined),
    'console=ttyS0 quiet panic=-1 lsm=landlock,yama cryptomgr.notests',
    'KVM has no bug of TCG',
  );
  t.equal(
    kernelWords('tcg', 2596146, ['debug', 'x=1']),
    'console=ttyS0 quiet panic=-1 lsm=landlock,yama cryptomgr.notests mitigations=off clearcpuid=141 tsc_early_khz=2596146 debug x=1',
  );
});

t.test("the host's time-stamp counter", async (t) => {
  const cpuinfo = (mhz: string, name = 'AMD EPYC', flags = 'fpu tsc constant_tsc nonstop_tsc') =>
    `processor\t: 0\nmodel name\t: ${name}\ncpu MHz\t\t: ${mhz}\nflags\t\t: ${flags}\n\nprocessor\t: 1\n`;
  const intel = 'Intel(R) Xeon(R) CPU @ 2.20GHz';
  const cases: [string, Parameters<typeof hostTscKhz>, number | undefined][] = [
    ['a virtual host: cpu MHz is it', [cpuinfo('2596.146'), undefined, false], 2596146],
    [
      'a core that changes its frequency: the base frequency',
      [cpuinfo('4100.0'), '2600000\n', true],
      2600000,
    ],
    ['or the nominal one in its name', [cpuinfo('4100.0', intel), undefined, true], 2200000],
    ['or nothing', [cpuinfo('4100.0'), undefined, true], undefined],
    ['a counter that is not constant', [cpuinfo('2596.1', intel, 'fpu tsc'), undefined, false], undefined],
    ['one that stops', [cpuinfo('2596.1', intel, 'constant_tsc'), undefined, false], undefined],
    ['another architecture', ['Features: asimd', undefined, false], undefined],
    ['nonsense', [cpuinfo('0.001'), undefined, false], undefined],
  ];
  for (const [name, args, expected] of cases) t.equal(hostTscKhz(...args), expected, name);
});
