import { readFileSync } from 'node:fs';
import t from 'tap';
import { TextTail } from '../../host/lib/text-tail.ts';
import { guestDns, parseResolvers, readResolvers } from '../../host/network/outbound/host-resolvers.ts';
import { hasDefault4, hasDefault6, waysOut } from '../../host/network/outbound/host-routes.ts';
import { passtEnded } from '../../host/network/outbound/passt.ts';
import { gatewayQuestion, isGatewayAnswer } from '../../host/network/outbound/passt-answer.ts';
import {
  forwardsTcpDns,
  missingOptions,
  parsePasst,
  passtArguments,
} from '../../host/network/outbound/passt-arguments.ts';
import { wayOf } from '../../host/network/outbound/start-outbound.ts';
import { INET } from '../../host/network/types.ts';

/** As Debian 12's prints it, in part, where there is no syslog. */
const HELP_2023 = `Usage: passt [OPTION]...
Failed to send 7 bytes to syslog
  -q, --quiet		Don't print informational messages
  -f, --foreground	Don't run in background
  -e, --stderr		Log to stderr too
  -F, --fd FD		Use FD as pre-opened connected socket
  -m, --mtu MTU	Assign MTU via DHCP/NDP
  -a, --address ADDR	Assign IPv4 or IPv6 address ADDR
  -M, --mac-addr ADDR	Use source MAC address ADDR
  -g, --gateway ADDR	Pass IPv4 or IPv6 address as gateway
  --dns-forward ADDR	Forward DNS queries sent to ADDR
  --no-map-gw		Don't map gateway address to host
  --no-dhcp		Disable DHCP server
  --no-dhcpv6		Disable DHCPv6 server
  --no-ra		Disable router advertisements
`;
const OLD = parsePasst('/usr/bin/passt', HELP_2023, 'passt unknown version\nCopyright Red Hat\n');
const NEW = parsePasst(
  '/usr/bin/passt',
  `${HELP_2023.replace(/.*--stderr.*\n/, '')}  --map-host-loopback ADDR	Translate ADDR to refer to host\n`,
  'passt 0.0~git20250503.587980c-2\n',
);

t.test('what an installed passt is, by its help', async (t) => {
  t.equal(OLD.version, null);
  t.equal(NEW.version, '0.0~git20250503.587980c-2');
  t.strictSame(missingOptions(OLD), []);
  t.strictSame(missingOptions(NEW), []);
  t.strictSame(missingOptions(parsePasst('x', HELP_2023.replace('--fd', '--nothing'), '')), ['--fd']);
  t.equal(missingOptions(parsePasst('x', 'no such option', '')).length, 7, 'another program');
  t.equal(forwardsTcpDns(OLD), false);
  t.equal(forwardsTcpDns(NEW), true);
});

t.test('its command line', async (t) => {
  const words = passtArguments(OLD, {
    fd: 3,
    mtu: 65_520,
    publish: [
      { protocol: 'tcp', hostPort: 8080, guestPort: 80 },
      { protocol: 'udp', hostAddress: '::1', hostPort: 53, guestPort: 5353 },
    ],
    dns: { ipv4: '10.42.42.1', ipv6: 'fd42:42:42::1' },
    ipv6: true,
  });
  t.equal(
    words.join(' '),
    '--foreground --one-off --fd 3 --quiet --stderr --no-dhcp --no-dhcpv6 --no-ra --no-map-gw ' +
      '--dns-forward 10.42.42.1 --dns-forward fd42:42:42::1 ' +
      '--address 10.42.42.2 --netmask 24 --gateway 10.42.42.1 --address fd42:42:42::2 --gateway fd42:42:42::1 ' +
      '--mac-addr a0:13:0a:2a:2a:01 --mtu 65520 --tcp-ports 8080:80 --udp-ports ::1/53:5353',
  );
  const none = { fd: 3, mtu: 1500, publish: [], dns: { ipv4: null, ipv6: '::2' }, ipv6: false };
  const plain = passtArguments(NEW, none).join(' ');
  t.notMatch(plain, /stderr|dns-forward|fd42|ports/, 'nothing of IPv6, and no option that is not there');
  t.match(plain, /--no-map-gw/, 'never the loopback of the host');
});

t.test('resolvers of the host', async (t) => {
  const text =
    '# x\nnameserver 192.168.1.1\n  nameserver\t2001:db8::53 \nnameserver fe80::1%eth0\nnameserver no\n';
  t.strictSame(parseResolvers(text), ['192.168.1.1', '2001:db8::53']);
  const missing = () => {
    throw new Error('ENOENT');
  };
  t.strictSame(readResolvers(missing), { configured: [], behind: [] });
  t.ok(readResolvers().configured);
});

t.test('what the guest asks for names', async (t) => {
  const gateways = { ipv4: INET.gateway, ipv6: INET.gateway6 };
  const both = { configured: ['192.168.1.1', '2001:db8::53'], behind: [] };
  t.strictSame(guestDns(both, true), { ...gateways, tcp: true });
  t.strictSame(guestDns(both, false), { ipv4: '192.168.1.1', ipv6: '2001:db8::53', tcp: true });
  const systemd = { configured: ['127.0.0.53'], behind: ['192.168.1.1'] };
  t.strictSame(guestDns(systemd, true), { ipv4: INET.gateway, ipv6: null, tcp: true });
  t.strictSame(guestDns(systemd, false), { ipv4: '192.168.1.1', ipv6: null, tcp: true });
  const loopback = { configured: ['127.0.0.1', '::1'], behind: [] };
  t.strictSame(guestDns(loopback, false), { ...gateways, tcp: false });
  t.strictSame(guestDns({ configured: [], behind: [] }, false), { ipv4: null, ipv6: null, tcp: false });
});

t.test('ways out, by the routes', async (t) => {
  const head = 'Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask	MTU	Window	IRTT\n';
  const row = (name: string, to: string, flags: string, mask: string) =>
    `${name}	${to}	0100A8C0	${flags}	0	0	0	${mask}	0	0	0\n`;
  t.equal(hasDefault4(head + row('eth0', '00000000', '0003', '00000000')), true);
  t.equal(hasDefault4(head + row('eth0', '0000A8C0', '0001', '00FFFFFF')), false, 'a network only');
  t.equal(hasDefault4(head + row('eth0', '00000000', '0203', '00000000')), false, 'it rejects');
  const zeros = '0'.repeat(32);
  const row6 = (flags: string, name: string) =>
    `${zeros} 00 ${zeros} 00 ${zeros} 00000400 00000001 00000000 ${flags} ${name}\n`;
  t.equal(hasDefault6(row6('00000003', '    eth0')), true);
  t.equal(hasDefault6(row6('00200200', '      lo')), false, 'the one that every host has');
  t.equal(hasDefault6(row6('00200200', '    eth0')), false);
  t.strictSame(
    waysOut(() => {
      throw new Error('ENOENT');
    }),
    { ipv4: false, ipv6: false },
  );
  const real = waysOut((path) => readFileSync(path, 'utf8'));
  t.equal(typeof real.ipv4, 'boolean');
});

t.test('the first question, and its answer', async (t) => {
  const question = gatewayQuestion();
  t.equal(
    Buffer.from(question).toString('hex'),
    '0000002affffffffffff90130a2a2a020806000108000604000190130a2a2a020a2a2a020000000000000a2a2a01',
  );
  const answer = Buffer.from(
    '90130a2a2a02a0130a2a2a0108060001080006040002a0130a2a2a010a2a2a0190130a2a2a020a2a2a02',
    'hex',
  );
  t.equal(isGatewayAnswer(answer), true);
  t.equal(isGatewayAnswer(Buffer.concat([answer, Buffer.alloc(18)])), true, 'padded, as newer ones do');
  t.equal(isGatewayAnswer(question.subarray(4)), false);
  t.equal(isGatewayAnswer(answer.subarray(0, 30)), false);
});

t.test('why it ended', async (t) => {
  const ended = (text: string, status: { code?: number; signal?: number } = { code: 1 }) => {
    const tail = new TextTail(4096);
    tail.push(Buffer.from(text));
    return passtEnded(status, tail);
  };
  const taken =
    "Failed to send 64 bytes to syslog\nFailed to bind any port for '-t 127.0.0.1/80:80', exiting\n";
  t.match(ended(taken), { code: 'YAVM_E_NET_PUBLISH', message: /127\.0\.0\.1\/80:80/, hint: /1024/ });
  t.notMatch(ended(taken).message, /syslog/);
  t.match(ended('No external routable interface for IPv4\nExternal interface not usable\n'), {
    code: 'YAVM_E_NET_PASST',
    message: /exit code 1.*not usable/,
    hint: /default route/,
  });
  t.match(ended("Couldn't create user namespace: Operation not permitted"), { hint: /max_user_namespaces/ });
  t.match(ended('', { signal: 9 }), { message: 'passt ended with signal 9', hint: undefined });
});

t.test('the way that is asked for', async (t) => {
  t.equal(wayOf({}), null);
  t.equal(wayOf({ YA_VM_OUTBOUND: 'auto' }), null);
  t.equal(wayOf({ YA_VM_OUTBOUND: 'qemu' }), 'qemu');
  t.equal(wayOf({ YA_VM_OUTBOUND: 'passt' }), 'passt');
  t.throws(() => wayOf({ YA_VM_OUTBOUND: 'slirp' }), { code: 'YAVM_E_NET_OUTBOUND' });
});
