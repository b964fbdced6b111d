/** The devices of a template, and how a VM's own take their places. */
import t from 'tap';
import type { LinkSpec } from '../../guest/protocol/messages.ts';
import { PCI_SLOTS } from '../../host/runtime/pci-slots.ts';
import {
  fillSlots,
  PLACEHOLDERS,
  placeholderMac,
  placeholdersOf,
  realSlots,
  throughPlaceholders,
} from '../../host/runtime/template/placeholders.ts';

t.test('each slot is taken, and nothing is behind it', async (t) => {
  t.equal(PLACEHOLDERS.disks.length, PCI_SLOTS.disks.length);
  t.ok(PLACEHOLDERS.disks.every((disk) => disk === null));
  t.strictSame(
    PLACEHOLDERS.nics.map(({ backend }) => backend),
    PCI_SLOTS.nics.map(() => null),
  );
  t.equal(new Set(PLACEHOLDERS.nics.map(({ mac }) => mac)).size, PCI_SLOTS.nics.length);
  // Neither of a group nor of a maker.
  for (const { mac } of PLACEHOLDERS.nics) t.equal(Number.parseInt(mac, 16) & 3, 2, mac);
});

t.test("a VM's devices come first, placeholders fill the rest", async (t) => {
  const { disks, nics } = fillSlots(['root', 'layer'], ['eth0']);
  t.strictSame(disks, ['root', 'layer', ...Array(PCI_SLOTS.disks.length - 2).fill(null)]);
  t.strictSame(nics, ['eth0', ...PLACEHOLDERS.nics.slice(1)]);
  t.strictSame(fillSlots([], []), PLACEHOLDERS);
  t.strictSame(realSlots(2, 1), [PCI_SLOTS.nics[0], PCI_SLOTS.disks[0], PCI_SLOTS.disks[1]]);
  t.strictSame(realSlots(0, 0), []);
});

t.test('the guest finds a link by what its NIC has, and gives it its own address', async (t) => {
  const links: LinkSpec[] = [
    { mac: '90:13:0A:00:00:01', name: 'eth0', addresses: ['10.0.0.1/24'] },
    { mac: '90:13:0a:00:00:02', name: 'eth1', addresses: [], setMac: '90:13:0a:00:00:ff' },
  ];
  const network = { links, nameservers: ['1.1.1.1'] };
  const map = placeholdersOf({ network });
  t.strictSame(throughPlaceholders(network, map), {
    ...network,
    links: [
      { ...(links[0] as LinkSpec), mac: placeholderMac(0), setMac: '90:13:0A:00:00:01' },
      { ...(links[1] as LinkSpec), mac: placeholderMac(1), setMac: '90:13:0a:00:00:ff' },
    ],
  });
  t.equal(throughPlaceholders(network, null), network, 'one that booted has its own');
  const later = { links: [{ mac: '02:00:00:00:00:09', name: 'eth5', addresses: [] }] };
  t.strictSame(throughPlaceholders(later, map), later, 'a NIC that is none of them stays');
  t.strictSame(throughPlaceholders({ hosts: {} } as never, map), { hosts: {} });
  t.equal(placeholdersOf({}).size, 0);
});
