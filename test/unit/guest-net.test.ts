import t from 'tap';
import {
  formatAddress,
  formatNetwork,
  maskedAddress,
  parseAddress,
  parseMac,
  parseNetwork,
} from '../../guest/net/address.ts';
import { runStepsWith } from '../../guest/net/apply.ts';
import { freeNames, ownAddress } from '../../guest/net/configure.ts';
import {
  describeStep,
  type LinkInfo,
  parseLink,
  parseRoute,
  planLink,
  type Step,
} from '../../guest/net/links.ts';
import { hostsText, resolverText } from '../../guest/net/names.ts';
import { fakeNative, systemError } from '../lib/fake-native.ts';
import { Random } from '../lib/random.ts';

t.test('addresses: canonical spelling', (t) => {
  const cases = {
    '0.0.0.0': '0.0.0.0',
    '255.255.255.255': '255.255.255.255',
    '::': '::',
    '::1': '::1',
    '1::': '1::',
    'FE80::0001': 'fe80::1',
    '2001:db8:0:0:1:0:0:1': '2001:db8::1:0:0:1',
    '1:0:3:4:5:6:7:8': '1:0:3:4:5:6:7:8',
    '::ffff:1.2.3.4': '::ffff:102:304',
    '1:2:3:4:5:6:7::': '1:2:3:4:5:6:7:0',
    '64:ff9b::192.0.2.33': '64:ff9b::c000:221',
  };
  for (const [text, canonical] of Object.entries(cases)) {
    const address = parseAddress(text);
    t.equal(formatAddress(address), canonical, text);
    t.equal(address.bytes.length, address.family === 4 ? 4 : 16);
  }
  t.end();
});

t.test('addresses: everything else is refused', (t) => {
  const wrong = [
    '',
    '1',
    '1.2.3',
    '1.2.3.4.5',
    '1.2.3.256',
    '01.2.3.4',
    '1.2.3.4 ',
    '-1.2.3.4',
    '1.2.3.0x4',
    ':',
    ':::',
    '1::2::3',
    '1:2:3:4:5:6:7',
    '1:2:3:4:5:6:7:8:9',
    '1:2:3:4:5:6:7:8::',
    '12345::',
    'g::',
    '::1.2.3',
    '1.2.3.4::',
    '::1%eth0',
    '1:2:3:4:5:6:7:1.2.3.4',
    `::${'0'.repeat(60)}`,
  ];
  for (const text of wrong) t.throws(() => parseAddress(text), { code: 'bad-request' }, JSON.stringify(text));
  for (const text of ['1.2.3.4', '1.2.3.4/', '1.2.3.4/33', '::/129', '1.2.3.4/-1', '1.2.3.4/8/8', '/8']) {
    t.throws(() => parseNetwork(text), { code: 'bad-request' }, text);
  }
  for (const text of ['', '00:11:22:33:44', '00:11:22:33:44:5g', '001122334455', '00:11:22:33:44:55:66']) {
    t.throws(() => parseMac(text), { code: 'bad-request' }, text);
  }
  t.equal(parseMac('AA:bb:00:11:22:33'), 'aa:bb:00:11:22:33');
  t.end();
});

t.test('addresses: format and parse are inverses', (t) => {
  const random = new Random();
  t.comment(`seed ${random.seed}`);
  const wrong: string[] = [];
  for (let round = 0; round < 2000; round++) {
    const bytes = [...random.bytes(random.chance(2) ? 4 : 16)].map((byte) => (random.chance(2) ? 0 : byte));
    const family = bytes.length === 4 ? 4 : 6;
    const text = formatAddress({ family, bytes });
    if (JSON.stringify(parseAddress(text).bytes) !== JSON.stringify(bytes)) wrong.push(`${bytes} → ${text}`);
  }
  t.strictSame(wrong, []);
  t.end();
});

t.test('the host bits of a destination are cleared', (t) => {
  const masked = (text: string) => formatAddress(maskedAddress(parseNetwork(text)));
  t.equal(masked('10.1.2.3/8'), '10.0.0.0');
  t.equal(masked('10.1.255.3/20'), '10.1.240.0');
  t.equal(masked('10.1.2.3/0'), '0.0.0.0');
  t.equal(masked('10.1.2.3/32'), '10.1.2.3');
  t.equal(masked('2001:db8:ffff::1/36'), '2001:db8:f000::');
  t.equal(formatNetwork(parseNetwork('10.1.2.3/8')), '10.1.2.3/8', 'an address keeps them');
  t.strictSame(parseRoute({ to: '10.1.2.3/8', via: '192.0.2.1', metric: 5 }), {
    destination: '10.0.0.0',
    prefix: 8,
    gateway: '192.0.2.1',
    metric: 5,
  });
  t.strictSame(parseRoute({ to: 'default' }), { destination: null, prefix: 0, gateway: null, metric: 0 });
  t.end();
});

const info = (more: Partial<LinkInfo>): LinkInfo => ({
  index: 2,
  name: 'eth0',
  mac: '52:54:00:00:00:01',
  mtu: 1500,
  up: false,
  rxBytes: 0,
  txBytes: 0,
  ...more,
});
const SPEC = {
  mac: '52:54:00:00:00:01',
  name: 'eth0',
  addresses: ['10.0.0.2/24', 'fd00::2/64'],
  routes: [{ to: 'default', via: '10.0.0.1' }, { to: '10.9.0.0/16' }],
};
const words = (steps: Step[]) => steps.map((step) => `${step.link}: ${describeStep(step)}`);

t.test('a new link: settings before it is up, addresses after, on-link routes before gateways', (t) => {
  const link = parseLink({ ...SPEC, name: 'vpn0', setMac: '90:13:0A:00:00:02', mtu: 1400, offloads: false });
  t.strictSame(words(planLink(link, info({}), null)), [
    'eth0: set rename vpn0, set mac 90:13:0a:00:00:02, set mtu 1400',
    'vpn0: set ipv6 accept_ra 0',
    'vpn0: set ipv6 accept_dad 0',
    'vpn0: switch tso off',
    'vpn0: switch gso off',
    'vpn0: switch tx-checksum off',
    'vpn0: set up true',
    'vpn0: add address 10.0.0.2/24',
    'vpn0: add address fd00::2/64',
    'vpn0: add route 10.9.0.0/16',
    'vpn0: add route default via 10.0.0.1',
  ]);
  t.end();
});

t.test('an MTU that is too small for IPv6 is refused only with IPv6', (t) => {
  t.throws(() => parseLink({ ...SPEC, mtu: 1220 }), {
    code: 'bad-request',
    message: /'eth0': IPv6 .* 1280, not 1220/,
  });
  t.equal(parseLink({ ...SPEC, addresses: ['10.0.0.2/24'], mtu: 1220 }).mtu, 1220);
  t.end();
});

t.test('a link that is as it should be: nothing is set, what is listed is confirmed', (t) => {
  const link = parseLink(SPEC);
  const steps = planLink(link, info({ up: true }), link);
  t.strictSame([...new Set(steps.map((step) => step.do))], ['sysctl', 'address-add', 'route-add']);
  t.end();
});

t.test('what is no longer listed is removed, routes first', (t) => {
  const before = parseLink(SPEC);
  const link = parseLink({
    ...SPEC,
    addresses: ['10.0.0.3/24', 'fd00:0::2/64'],
    routes: [{ to: '10.9.0.0/16' }],
  });
  t.strictSame(words(planLink(link, info({ up: true }), before)), [
    'eth0: set ipv6 accept_ra 0',
    'eth0: set ipv6 accept_dad 0',
    'eth0: remove route default via 10.0.0.1',
    'eth0: remove address 10.0.0.2/24',
    'eth0: add address 10.0.0.3/24',
    'eth0: add address fd00::2/64',
    'eth0: add route 10.9.0.0/16',
  ]);
  t.end();
});

t.test('renaming takes a link that is up down first', (t) => {
  const steps = planLink(parseLink({ ...SPEC, name: 'eth1' }), info({ up: true }), null);
  t.strictSame(words(steps).slice(0, 2), ['eth0: set up false', 'eth0: set rename eth1']);
  t.ok(words(steps).includes('eth1: set up true'));
  t.end();
});

t.test('swapped names: each holder steps aside', (t) => {
  const a = parseLink({ mac: '52:54:00:00:00:01', name: 'eth1', addresses: [] });
  const b = parseLink({ mac: '52:54:00:00:00:02', name: 'eth0', addresses: [] });
  const found = [info({ index: 2, name: 'eth0' }), info({ index: 3, name: 'eth1', mac: b.mac, up: true })];
  t.strictSame(words(freeNames([a, b], found)), [
    'eth1: set up false',
    'eth1: set rename yavm3',
    'eth0: set rename yavm2',
  ]);
  t.strictSame(
    freeNames(
      [
        { ...a, name: 'eth0' },
        { ...b, name: 'eth1' },
      ],
      found,
    ),
    [],
  );
  t.end();
});

t.test('steps: what is so already is no failure, everything else is, by name', (t) => {
  const failing = (code: string) => {
    const fail = () => {
      throw systemError(code, 'call');
    };
    return fakeNative(
      {},
      {
        linkSet: fail,
        linkFeature: fail,
        addressAdd: fail,
        addressRemove: fail,
        routeAdd: fail,
        routeRemove: fail,
        open: fail,
      },
    );
  };
  const link = 'eth0';
  const route = parseRoute({ to: 'default', via: '10.0.0.1' });
  const fine: [Step, string][] = [
    [{ do: 'sysctl', link, family: 'ipv6', key: 'accept_ra', value: '0' }, 'ENOENT'],
    [{ do: 'feature', link, feature: 'tso', on: false }, 'EOPNOTSUPP'],
    [{ do: 'address-add', link, address: '10.0.0.2', prefix: 8 }, 'EEXIST'],
    [{ do: 'address-remove', link, address: '10.0.0.2', prefix: 8 }, 'EADDRNOTAVAIL'],
    [{ do: 'route-add', link, route }, 'EEXIST'],
    [{ do: 'route-remove', link, route }, 'ESRCH'],
  ];
  for (const [step, code] of fine) {
    t.doesNotThrow(() => runStepsWith(failing(code).native, [step], '/sys'), step.do);
    t.throws(
      () => runStepsWith(failing('EINVAL').native, [step], '/sys'),
      { code: 'network-failed', errno: 'EINVAL', message: /link 'eth0': cannot / },
      step.do,
    );
  }
  t.throws(
    () => runStepsWith(failing('EEXIST').native, [{ do: 'set', link, change: { rename: 'lo' } }], '/sys'),
    {
      code: 'network-failed',
      message: /set rename lo/,
    },
  );
  const works = fakeNative({ '/sys/ipv6/conf/eth0/accept_ra': '' });
  runStepsWith(
    works.native,
    [...fine.map(([step]) => step), { do: 'set', link, change: { up: true } }],
    '/sys',
  );
  t.strictSame(
    works.only('linkSet', 'linkFeature', 'addressAdd', 'addressRemove', 'routeAdd', 'routeRemove'),
    [
      ['linkFeature', 'eth0', 'tso', false],
      ['addressAdd', 'eth0', '10.0.0.2', 8],
      ['addressRemove', 'eth0', '10.0.0.2', 8],
      ['routeAdd', 'eth0', null, 0, '10.0.0.1', 0],
      ['routeRemove', 'eth0', null, 0, '10.0.0.1', 0],
      ['linkSet', 'eth0', { up: true }],
    ],
  );
  t.equal(works.open.size, 0);
  t.end();
});

t.test('/etc/hosts: standard lines, the VM on its first IPv4 address, then what is configured', (t) => {
  const links = [
    parseLink({ mac: '52:54:00:00:00:01', name: 'a', addresses: ['fd00::1/64'] }),
    parseLink({ mac: '52:54:00:00:00:02', name: 'b', addresses: ['10.0.0.2/24'] }),
  ];
  t.equal(ownAddress(links), '10.0.0.2');
  t.equal(ownAddress(links.slice(0, 1)), 'fd00::1');
  t.equal(ownAddress([]), null);
  t.equal(
    hostsText('vm-1', '10.0.0.2', { 'node-2': '10.0.0.3', six: 'FD00::3' }),
    '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n' +
      '10.0.0.2\tvm-1\n10.0.0.3\tnode-2\nfd00::3\tsix\n',
  );
  t.match(hostsText('vm-1', null, {}), /^127\.0\.1\.1\tvm-1$/m);
  for (const name of ['a b', 'a\n1.2.3.4 evil', '#', '']) {
    t.throws(
      () => hostsText('vm', null, { [name]: '10.0.0.1' }),
      { code: 'bad-request' },
      JSON.stringify(name),
    );
  }
  t.throws(() => hostsText('vm', null, { ok: '10.0.0' }), { code: 'bad-request' });
  t.end();
});

t.test('/etc/resolv.conf', (t) => {
  t.equal(
    resolverText(['10.0.0.1', 'FD00::1'], ['example.org', 'local']),
    'search example.org local\nnameserver 10.0.0.1\nnameserver fd00::1\n',
  );
  t.throws(() => resolverText(['10.0.0.1\nevil'], []), { code: 'bad-request' });
  t.throws(() => resolverText([], ['a b']), { code: 'bad-request' });
  t.end();
});
