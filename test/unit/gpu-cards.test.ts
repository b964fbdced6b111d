/** Which graphics cards a host has, and what keeps them from being passed on: on trees made from data. */
import { closeSync } from 'node:fs';
import t from 'tap';
import { holeFor, parseBars, windowFor } from '../../host/gpu/bars.ts';
import { type Card, findCards } from '../../host/gpu/cards.ts';
import { checkCard, errorOf } from '../../host/gpu/checks.ts';
import { claimCard, isClaimed, type Locker } from '../../host/gpu/claim.ts';
import { hostFacts, memlockLimit } from '../../host/gpu/host-facts.ts';
import { cardAt, passCards } from '../../host/gpu/select.ts';
import { parseSlot } from '../../host/gpu/slot.ts';
import { loadNative } from '../../native/load.ts';
import {
  AMD,
  CONSUMER,
  DATA_CENTRE,
  type FakeHost,
  FakeSysfs,
  INTEL,
  NO_CARD,
  SHARED_GROUP,
} from '../lib/fake-sysfs.ts';

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;
const NOBODY = { uid: 65534, gid: 65534, groups: [] };
const native = loadNative();
/** Nobody has a card. */
const free: Locker = { flock: () => true };

function host(t: { teardown(work: () => void): unknown }, description: FakeHost): FakeSysfs {
  const fake = new FakeSysfs(description);
  t.teardown(() => fake.remove());
  return fake;
}

/** The one card of a host. */
function onlyCard(fake: FakeSysfs): Card {
  const [card, ...more] = findCards(fake.roots);
  if (!card || more.length > 0) throw new Error('not one card');
  return card;
}

function findings(fake: FakeSysfs, memoryMiB: number | null = 1024, locker = free): string[] {
  const card = onlyCard(fake);
  const facts = hostFacts(card, { roots: fake.roots, user: () => NOBODY, locker });
  return checkCard(card, facts, memoryMiB).map(({ code, problem, fix }) => `${code}: ${problem} | ${fix}`);
}

t.test('a data-centre card: class 3D, alone in its group', async (t) => {
  const card = onlyCard(host(t, { functions: DATA_CENTRE }));
  t.strictSame(card, {
    slot: '0000:17:00.0',
    vendor: 'nvidia',
    kind: 'compute',
    ids: '10de:20b5',
    functions: [
      {
        slot: '0000:17:00.0',
        vendor: 0x10de,
        device: 0x20b5,
        class: 0x030200,
        driver: 'vfio-pci',
        bars: [
          { index: 0, size: 16 * MIB, high: false },
          { index: 1, size: 128 * GIB, high: true },
          { index: 3, size: 32 * MIB, high: true },
        ],
      },
    ],
    group: 12,
    companions: [],
    bootDisplay: false,
    virtual: false,
    migInstances: 0,
  });
});

t.test('a consumer card: all its functions are its own, the bridge is not', async (t) => {
  const card = onlyCard(host(t, { functions: CONSUMER }));
  t.match(card, { slot: '0000:01:00.0', vendor: 'nvidia', kind: 'display', group: 1, bootDisplay: true });
  t.strictSame(
    card.functions.map(({ slot, driver }) => `${slot} ${driver}`),
    ['0000:01:00.0 nvidia', '0000:01:00.1 snd_hda_intel', '0000:01:00.2 xhci_hcd', '0000:01:00.3 null'],
  );
  t.strictSame(
    card.companions.map(({ slot }) => slot),
    ['0000:00:01.0'],
  );
});

t.test('AMD, Intel, none, and an emulated one', async (t) => {
  const kinds = (functions: FakeHost['functions']) =>
    findCards(host(t, { functions }).roots).map(({ slot, vendor, kind, group }) => ({
      slot,
      vendor,
      kind,
      group,
    }));
  t.strictSame(kinds(AMD), [{ slot: '0000:0b:00.0', vendor: 'amd', kind: 'display', group: 30 }]);
  t.strictSame(kinds(INTEL), [
    { slot: '0000:00:02.0', vendor: 'intel', kind: 'integrated', group: null },
    { slot: '0000:03:00.0', vendor: 'intel', kind: 'display', group: null },
  ]);
  t.strictSame(kinds(NO_CARD), []);
  const bochs = { slot: '0000:00:06.0', vendor: 0x1234, device: 0x1111, class: 0x038000 };
  t.strictSame(kinds([bochs]), [{ slot: '0000:00:06.0', vendor: 'other', kind: 'compute', group: null }]);
  t.strictSame(findCards({ sys: '/nonexistent', dev: '/nonexistent', proc: '/nonexistent' }), []);
});

t.test('a share of a card is alone; a card in instances says so', async (t) => {
  const share = {
    slot: '0000:17:00.4',
    vendor: 0x10de,
    device: 0x20b5,
    class: 0x030200,
    physfn: '0000:17:00.0',
  };
  const [virtual] = findCards(host(t, { functions: [share] }).roots);
  t.match(virtual, { virtual: true, functions: [{ slot: '0000:17:00.4' }] });
  const functions = DATA_CENTRE.map((each) => ({ ...each, driver: each.native ?? each.driver }));
  const fake = host(t, { functions, mig: { '0000:17:00.0': 7 } });
  t.equal(onlyCard(fake).migInstances, 7);
  t.match(findings(fake), [
    /^YAVM_E_GPU_DRIVER: .*0000:17:00\.0 has nvidia; it is split into 7 MIG instances, which would be lost \| sudo ya-vm gpu bind 0000:17:00\.0$/,
  ]);
});

t.test('sizes of windows', async (t) => {
  t.strictSame(parseBars('0x0 0x0 0x0\nrubbish\n0x10 0x0 0x200\n'), []);
  const bars = (...sizes: number[]) => sizes.map((size, index) => ({ index, size, high: true }));
  t.equal(windowFor(bars(128 * GIB, 32 * MIB)), 256 * GIB, 'a multiple of the largest');
  t.equal(windowFor(bars(256 * MIB)), 256 * MIB);
  t.equal(windowFor([{ index: 0, size: 16 * MIB, high: false }]), 0, 'below 4 GiB there is room');
  t.equal(holeFor([]), null);
  t.equal(holeFor([16 * GIB]), null, "QEMU's default does");
  t.equal(holeFor([32 * GIB]), 64 * GIB);
  t.equal(holeFor([256 * GIB]), 512 * GIB);
  t.equal(holeFor([256 * GIB, 256 * GIB]), 1024 * GIB);
});

t.test('addresses', async (t) => {
  t.equal(parseSlot('01:00.0'), '0000:01:00.0');
  t.equal(parseSlot('0000:0B:1F.7'), '0000:0b:1f.7');
  for (const wrong of ['', '1:0.0', '0000:01:00', '0000:01:20.0', '0000:01:00.8', '01:00.0,rombar=0']) {
    t.throws(() => parseSlot(wrong), { code: 'YAVM_E_USAGE' }, wrong);
  }
});

t.test('each obstacle is named, with what helps', async (t) => {
  const nodes = { vfio: 0o666, 12: 0o666 };
  t.strictSame(findings(host(t, { functions: DATA_CENTRE, nodes })), [], 'none');
  t.match(findings(host(t, { functions: INTEL.slice(1) })), [/^YAVM_E_GPU_IOMMU: .*intel_iommu=on/]);
  t.match(findings(host(t, { functions: SHARED_GROUP, nodes: { vfio: 0o666, 2: 0o666 } })), [
    /^YAVM_E_GPU_GROUP: its IOMMU group 2 has other devices.*: 0000:03:00\.0 \(igb\) \|/,
  ]);
  t.match(findings(host(t, { functions: CONSUMER, vfio: false })), [
    /^YAVM_E_GPU_DRIVER: not all of it is bound to vfio-pci: 0000:01:00\.0 has nvidia, .*0000:01:00\.3 has no driver \| sudo modprobe vfio-pci && sudo ya-vm gpu bind 0000:01:00\.0$/,
  ]);
  t.match(findings(host(t, { functions: DATA_CENTRE, nodes: { vfio: 0o666 } })), [
    /^YAVM_E_GPU_NODE: \/dev\/vfio\/12 is not there \| sudo modprobe/,
  ]);
  t.match(findings(host(t, { functions: DATA_CENTRE, nodes: { vfio: 0o666, 12: 0o600 } })), [
    /^YAVM_E_GPU_NODE: \/dev\/vfio\/12: the user that QEMU runs as \(uid 65534\) may not open it \| echo 'SUBSYSTEM=="vfio"/,
  ]);
  const busy: Locker = { flock: () => false };
  t.match(findings(host(t, { functions: DATA_CENTRE, nodes }), null, busy), [
    /^YAVM_E_GPU_BUSY: another VM has it/,
  ]);
});

t.test('locked memory: of an ordinary user the hard limit counts', async (t) => {
  const nodes = { vfio: 0o666, 12: 0o666 };
  const fake = host(t, { functions: DATA_CENTRE, nodes, memlock: String(3 * GIB) });
  const card = onlyCard(fake);
  const facts = {
    ...hostFacts(card, { roots: fake.roots, user: () => null, locker: free }),
    group: 'usable' as const,
  };
  t.equal(facts.memlock, 3 * GIB);
  t.strictSame(checkCard(card, facts, 2048), [], 'the memory and 1 GiB fit');
  t.match(checkCard(card, facts, 2049), [{ code: 'YAVM_E_GPU_MEMLOCK' }]);
  t.strictSame(checkCard(card, facts, null), [], 'without a VM nothing is asked for');
  t.equal(
    hostFacts(card, { roots: fake.roots, user: () => NOBODY, locker: free }).memlock,
    Infinity,
    'root gives it',
  );
  t.equal(memlockLimit('Max locked memory  8388608  unlimited  bytes'), Infinity);
  t.equal(memlockLimit('rubbish'), 0);
});

t.test('a card is one VM at a time', async (t) => {
  const fake = host(t, { functions: DATA_CENTRE, nodes: { vfio: 0o666, 12: 0o666 } });
  const facing = { roots: fake.roots, user: () => NOBODY, locker: native };
  const [passed] = passCards(['17:00.0'], 1024, facing);
  t.match(passed, {
    functions: [{ slot: '0000:17:00.0', number: 0 }],
    window: 256 * GIB,
    group: 12,
  });
  t.ok(isClaimed(fake.roots, '0000:17:00.0', native));
  t.throws(() => passCards(['17:00.0'], 1024, facing), { code: 'YAVM_E_GPU_BUSY', hint: /ya-vm ps/ });
  closeSync(passed?.lock as number);
  t.notOk(isClaimed(fake.roots, '0000:17:00.0', native), 'free again, by the close alone');
  t.equal(claimCard(fake.roots, '0000:ff:00.0', native), null, 'one that is gone');
});

t.test('what cannot be passed leaves no lock behind', async (t) => {
  const functions = [...DATA_CENTRE, ...SHARED_GROUP];
  const fake = host(t, { functions, nodes: { vfio: 0o666, 12: 0o666, 2: 0o666 } });
  const facing = { roots: fake.roots, user: () => NOBODY, locker: native };
  t.throws(() => passCards(['17:00.0', '02:00.0'], 1024, facing), {
    code: 'YAVM_E_GPU_GROUP',
    message: /^the card 0000:02:00\.0 cannot be passed to a VM: /,
  });
  t.notOk(isClaimed(fake.roots, '0000:17:00.0', native));
  t.throws(() => passCards(['09:00.0'], 1024, facing), { code: 'YAVM_E_GPU_MISSING', hint: /gpu list/ });
});

t.test('two cards of one group go together; two functions are one card', async (t) => {
  const second = { ...SHARED_GROUP[0], slot: '0000:03:00.0' } as FakeHost['functions'][number];
  const fake = host(t, {
    functions: [...SHARED_GROUP.slice(0, 2), second],
    nodes: { vfio: 0o666, 2: 0o666 },
  });
  const facing = { roots: fake.roots, user: () => NOBODY, locker: free };
  t.throws(() => passCards(['02:00.0'], 1024, facing), { code: 'YAVM_E_GPU_GROUP' });
  const passed = passCards(['02:00.0', '03:00.0', '02:00.1'], 1024, facing);
  t.strictSame(
    passed.map(({ functions }) => functions.map(({ slot }) => slot)),
    [['0000:02:00.0', '0000:02:00.1'], ['0000:03:00.0']],
  );
  for (const { lock } of passed) closeSync(lock);
  t.equal(cardAt(findCards(fake.roots), '2:00.1'.padStart(7, '0')).slot, '0000:02:00.0');
});

t.test('a finding as an error', async (t) => {
  const error = errorOf({ code: 'YAVM_E_GPU_BUSY', slot: '0000:01:00.0', problem: 'x', fix: 'y' });
  t.match(error, { code: 'YAVM_E_GPU_BUSY', message: /0000:01:00\.0.*: x/, hint: 'y' });
});
