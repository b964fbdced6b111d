import t from 'tap';
import { hostTscKhz, kernelWords } from '../../host/runtime/kernel-words.ts';
import { PCI_SLOTS } from '../../host/runtime/pci-slots.ts';
import { escapeCommas, type QemuSpec, qemuArguments } from '../../host/runtime/qemu-arguments.ts';

const SPEC: QemuSpec = {
  name: 'vm',
  accel: 'tcg',
  cpuModel: 'max',
  cpus: 2,
  memoryMiB: 512,
  kernel: 3,
  initramfs: 4,
  kernelWords: 'quiet',
  disks: [],
  nics: [],
  shares: [],
  control: 5,
  data: 6,
  log: 7,
  qmp: 8,
  consoleLog: 9,
};

const disk = (index: number) => ({
  serial: `disk${index}`,
  fd: 20 + index,
  readOnly: index > 0,
  durable: false,
  reserved: false,
});

/** Values of an option, in order. */
function values(args: string[], option: string): string[] {
  return args.flatMap((arg, index) => (arg === option ? [args[index + 1] as string] : []));
}

t.test('the whole command line of a small VM', async (t) => {
  const args = qemuArguments({ ...SPEC, disks: [disk(0), disk(1)], nics: [{ mac: '90:13:0a:00:00:01' }] });
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

t.test('a serial cannot add options', async (t) => {
  const args = qemuArguments({ ...SPEC, disks: [{ ...disk(0), serial: 'x,bus=evil' }] });
  t.ok(values(args, '-device').some((value) => value.includes('serial=x,,bus=evil,werror=')));
  t.equal(escapeCommas('a,b,,c'), 'a,,b,,,,c');
});

t.test('every device has a slot of its own, and no more devices than slots are taken', async (t) => {
  const full: QemuSpec = {
    ...SPEC,
    disks: Array.from({ length: 8 }, (_, index) => disk(index)),
    nics: [{ mac: '90:13:00:00:00:01' }, { mac: '90:13:00:00:00:02' }],
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
  t.throws(() => qemuArguments({ ...full, nics: [...full.nics, { mac: '90:13:00:00:00:03' }] }), RangeError);
});

t.test('kernel words', async (t) => {
  t.equal(kernelWords('kvm', undefined), 'console=ttyS0 quiet panic=-1 cryptomgr.notests');
  t.equal(
    kernelWords('tcg', 2596146, ['debug', 'x=1']),
    'console=ttyS0 quiet panic=-1 cryptomgr.notests mitigations=off tsc_early_khz=2596146 debug x=1',
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
