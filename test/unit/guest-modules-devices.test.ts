import t from 'tap';
import { aliasBuses, findAliases, matchAlias } from '../../guest/boot/aliases.ts';
import { busAliases, listBuses } from '../../guest/boot/devices.ts';
import { addedAlias, followUevents } from '../../guest/boot/uevents.ts';
import { fakeNative, systemError } from '../lib/fake-native.ts';

t.test('patterns as fnmatch has them', (t) => {
  const fits: [pattern: string, text: string][] = [
    ['pci:v00001AF4d*sv*sd*bc*sc*i*', 'pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00'],
    ['acpi*:QEMU0001:*', 'acpi:QEMU0001:'],
    ['usb:v*p*d*dc*dsc*dp*ic03isc[0-1]*', 'usb:v1p2d3dc4dsc5dp6ic03isc1x'],
    ['a[!b-d]?', 'aex'],
    ['a[^b]', 'a-'],
    ['a[]x]b', 'a]b'],
    ['a[', 'a['],
    ['a\\*b', 'a*b'],
    ['a\\', 'a\\'],
    ['snd-hda', 'snd_hda'],
    ['x[a-]', 'x-'],
    ['*', ''],
    ['**a*', 'bab'],
    ['', ''],
  ];
  for (const [pattern, text] of fits) t.ok(matchAlias(pattern, text), `${pattern} fits ${text}`);
  const others: [pattern: string, text: string][] = [
    ['pci:v00001AF4d*', 'pci:v00001AF5d00001041'],
    ['a[b-d]', 'ae'],
    ['a[!b]', 'ab'],
    ['a[b]', 'a'],
    ['a?', 'a'],
    ['a', 'ab'],
    ['a\\*b', 'axb'],
    ['', 'a'],
    ['*a', 'ab'],
  ];
  for (const [pattern, text] of others) t.notOk(matchAlias(pattern, text), `${pattern} does not fit ${text}`);
  t.notOk(matchAlias(`${'*a'.repeat(200)}b`, 'a'.repeat(2000)), 'many stars do not multiply');
  t.end();
});

t.test('aliases of a list, and its buses', (t) => {
  const list = `# comment
alias pci:v*d*bc03* one
alias pci:v00001234d* two
alias pci:v*d*bc03* one
alias *:special three
alias of:N*T*Cvirtio,mmio four
alias crypto-crc32c five
damaged
alias
alias nothing
alias virtio:d00000001v* six`;
  t.strictSame(findAliases(list, 'pci:v00001234d1bc03x'), ['one', 'two']);
  t.strictSame(findAliases(list, 'pci:special'), ['three'], 'a star may come first');
  t.strictSame(findAliases(list, 'crypto_crc32c'), ['five']);
  t.strictSame(findAliases(list, 'virtio:d00000001v1'), ['six'], 'a last line may lack its end');
  t.strictSame(findAliases(list, ''), []);
  t.strictSame(findAliases('', 'pci:x'), []);
  t.strictSame([...aliasBuses(list)], ['pci', 'of', 'virtio']);
  t.end();
});

t.test('devices of the buses asked for; what goes away meanwhile is passed over', (t) => {
  const fake = fakeNative({
    '/s/bus': ['pci', 'usb', 'virtio', 'gone'],
    '/s/bus/pci/devices': ['0000:00:02.0', '0000:00:01.0', '0000:00:03.0'],
    '/s/bus/pci/devices/0000:00:01.0/modalias': 'pci:one\n',
    '/s/bus/pci/devices/0000:00:02.0/modalias': 'pci:two\npci:three\npci:one\n',
  });
  t.strictSame(listBuses(fake.native, new Set(['pci', 'gone', 'other']), '/s'), ['pci', 'gone']);
  t.strictSame(busAliases(fake.native, 'pci', '/s'), ['pci:one', 'pci:two', 'pci:three']);
  t.strictSame(busAliases(fake.native, 'gone', '/s'), []);
  t.strictSame(listBuses(fake.native, new Set(['pci']), '/nowhere'), []);
  t.equal(fake.open.size, 0);
  t.end();
});

t.test('announcements of devices', (t) => {
  const event = 'add@/devices/pci0000:00/x\0ACTION=add\0MODALIAS=pci:v1\0SEQNUM=7\0';
  t.equal(addedAlias(event), 'pci:v1');
  t.equal(addedAlias('add@/devices/x\0MODALIAS=virtio:d2'), 'virtio:d2');
  t.equal(addedAlias('remove@/devices/x\0MODALIAS=pci:v1\0'), null);
  t.equal(addedAlias('add@/module/x\0ACTION=add\0'), null);
  t.equal(addedAlias(''), null, 'not from the kernel');

  const queue: (string | null | Error)[] = [event, '', systemError('ENOBUFS', 'recvfrom'), event, null];
  let wake = (_events: number): void => {};
  const fake = fakeNative(
    {},
    {
      ueventOpen: () => 7,
      close: () => {},
      ueventRead: () => {
        const next = queue.shift() ?? null;
        if (next instanceof Error) throw next;
        return next;
      },
      watch: (_fd, _events, callback) => {
        wake = callback;
      },
    },
  );
  const seen: unknown[] = [];
  followUevents(fake.native, {
    onAdded: (aliases) => seen.push(aliases),
    onLost: () => seen.push('lost'),
    onFailure: () => seen.push('failed'),
  });
  wake(1);
  t.strictSame(seen, [['pci:v1', 'pci:v1'], 'lost']);
  for (let i = 0; i < 1000; i++) queue.push(event);
  wake(1);
  t.ok(queue.length > 900, 'a flood is taken in turns');
  queue.splice(0, queue.length, systemError('ENOMEM', 'recvfrom'));
  wake(1);
  t.equal(seen.pop(), 'failed');
  t.strictSame(fake.only('unwatch', 'close'), [
    ['unwatch', 7],
    ['close', 7],
  ]);
  t.end();
});
