/** QEMU's arguments for graphics cards, and what the guest is told of them: exactly. */
import t from 'tap';
import { findCards } from '../../host/gpu/cards.ts';
import { vfioNodes } from '../../host/gpu/claim.ts';
import { describeCard } from '../../host/gpu/select.ts';
import { qemuUser } from '../../host/runtime/privileges.ts';
import { type CardArguments, type QemuSpec, qemuArguments } from '../../host/runtime/qemu-arguments.ts';
import type { VmSpec } from '../../host/runtime/types.ts';
import { checkSpec, lockingTime, planConfigure } from '../../host/runtime/vm-plan.ts';
import { AMD, CONSUMER, DATA_CENTRE, type FakeFunction, FakeSysfs } from '../lib/fake-sysfs.ts';
import { QEMU_SPEC } from '../lib/qemu-spec.ts';

const SPEC: QemuSpec = { ...QEMU_SPEC, accel: 'kvm' };

/** Arguments that a change of the specification adds, each option with its value. */
function added(change: Partial<QemuSpec>): string[] {
  const pairs = (args: string[]) => args.join(' ').split(/ (?=-[a-z])/);
  const before = new Set(pairs(qemuArguments(SPEC)));
  return pairs(qemuArguments({ ...SPEC, ...change })).filter((pair) => !before.has(pair));
}

function cards(t: { teardown(work: () => void): unknown }, ...functions: FakeFunction[]): CardArguments[] {
  const fake = new FakeSysfs({ functions });
  t.teardown(() => fake.remove());
  return findCards(fake.roots).map(describeCard);
}

const MACHINE =
  '-machine q35,vmport=off,smm=off,sata=off,smbus=off,dump-guest-core=off,memory-backend=memory';
const MEMORY = '-object memory-backend-ram,id=memory,size=512M,prealloc=on,prealloc-threads=2';

t.test('cards that QEMU emulates sit at a slot of their own', async (t) => {
  t.strictSame(added({ display: 'virtio' }), ['-device virtio-gpu-pci,id=display,bus=pcie.0,addr=0x6']);
  t.strictSame(added({ display: 'bochs' }), ['-device bochs-display,id=display,bus=pcie.0,addr=0x6']);
  t.strictSame(added({ display: null, cards: [] }), []);
});

t.test('a data-centre card: its window, the room for it, memory touched before it is locked', async (t) => {
  t.strictSame(added({ cards: cards(t, ...DATA_CENTRE) }), [
    MEMORY,
    MACHINE,
    '-global q35-pcihost.pci-hole64-size=524288M',
    '-device pcie-root-port,id=card0,chassis=1,bus=pcie.0,addr=0x10',
    '-device vfio-pci,host=0000:17:00.0,bus=card0,addr=0x0.0x0',
  ]);
});

t.test('a consumer card: all four functions, as one device', async (t) => {
  t.strictSame(added({ cards: cards(t, ...CONSUMER) }), [
    MEMORY,
    MACHINE,
    '-device pcie-root-port,id=card0,chassis=1,bus=pcie.0,addr=0x10',
    '-device vfio-pci,host=0000:01:00.0,bus=card0,addr=0x0.0x0,multifunction=on',
    '-device vfio-pci,host=0000:01:00.1,bus=card0,addr=0x0.0x1',
    '-device vfio-pci,host=0000:01:00.2,bus=card0,addr=0x0.0x2',
    '-device vfio-pci,host=0000:01:00.3,bus=card0,addr=0x0.0x3',
  ]);
});

t.test('two cards: a root port each; with a file server the memory is shared too', async (t) => {
  const shares = [{ kind: 'virtiofs' as const, tag: 'share0', fd: 30 }];
  const args = added({ cards: cards(t, ...AMD, ...DATA_CENTRE), shares, cpus: 64 });
  t.strictSame(
    args.filter((arg) => !arg.includes('share0')),
    [
      '-object memory-backend-memfd,id=memory,size=512M,share=on,prealloc=on,prealloc-threads=8',
      MACHINE,
      '-global q35-pcihost.pci-hole64-size=1048576M',
      '-smp 64',
      '-device pcie-root-port,id=card0,chassis=1,bus=pcie.0,addr=0x10',
      '-device vfio-pci,host=0000:0b:00.0,bus=card0,addr=0x0.0x0,multifunction=on',
      '-device vfio-pci,host=0000:0b:00.1,bus=card0,addr=0x0.0x1',
      '-device pcie-root-port,id=card1,chassis=2,bus=pcie.0,addr=0x11',
      '-device vfio-pci,host=0000:17:00.0,bus=card1,addr=0x0.0x0',
    ],
  );
  const [card] = cards(t, ...DATA_CENTRE) as [CardArguments];
  t.throws(() => qemuArguments({ ...SPEC, cards: Array(5).fill(card) }), RangeError);
});

t.test('QEMU gets the groups of the nodes that it opens', async (t) => {
  t.strictSame(vfioNodes({ group: 12 }), ['/dev/vfio/vfio', '/dev/vfio/12']);
  t.equal(qemuUser(1000, ['/dev/null']), null);
  t.strictSame(
    qemuUser(0, ['/nonexistent'])?.groups,
    qemuUser(0)?.groups,
    'a node that is not there lends none',
  );
});

const VM: VmSpec = {
  assets: { kernel: 'k', initramfs: 'i', manifest: 'm' },
  layers: ['a.gvmi'],
  root: { ram: 1 },
  memoryMiB: 512,
  cpus: 1,
  hostname: 'golem',
  accel: 'auto',
};

t.test('what the guest is told', async (t) => {
  const gpu = (spec: Partial<VmSpec>) =>
    planConfigure({ ...VM, ...spec }, { now: 0, entropy: new Uint8Array(32), logLevel: 'info' }).gpu;
  t.equal(gpu({}), undefined, 'cards are left alone');
  t.strictSame(gpu({ gpu: { kind: 'virtio' } }), {});
  t.strictSame(gpu({ gpu: { kind: 'pci', slots: ['0000:01:00.0'] }, driverLayer: 'd' }), {
    layer: { serial: 'driver' },
  });
});

t.test('time to lock the memory', async (t) => {
  const gpu = { kind: 'pci' as const, slots: ['0000:01:00.0'] };
  t.equal(lockingTime({ gpu, memoryMiB: 24 * 1024 }), 270_000);
  t.equal(lockingTime({ gpu, memoryMiB: 1024 * 1024 }), 600_000, 'bounded');
  t.equal(lockingTime({ gpu: { kind: 'virtio' }, memoryMiB: 1024 }), 0);
});

t.test('bounds: cards by their root ports, the driver layer is a disk', async (t) => {
  const slots = Array.from({ length: 5 }, (_, index) => `0000:0${index}:00.0`);
  t.doesNotThrow(() => checkSpec({ ...VM, gpu: { kind: 'pci', slots: slots.slice(1) } }));
  t.throws(() => checkSpec({ ...VM, gpu: { kind: 'pci', slots } }), {
    code: 'YAVM_E_VM_SPEC',
    message: /5 cards/,
  });
  const layers = Array<string>(8).fill('a');
  t.doesNotThrow(() => checkSpec({ ...VM, layers }));
  t.throws(() => checkSpec({ ...VM, layers, driverLayer: 'd' }), { code: 'YAVM_E_VM_SPEC' });
});
