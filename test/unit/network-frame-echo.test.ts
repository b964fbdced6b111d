/** Who answers at the other end of a test's cable: ARP and pings, right in every byte, and nothing else. */
import t from 'tap';
import { checksum } from '../../host/network/frame/checksum.ts';
import { echoAnswer } from '../../host/network/frame/echo.ts';
import { ETH, ICMP, IPV4, writeU16 } from '../../host/network/frame/layout.ts';
import { writeEthernet, writeIp } from '../../host/network/frame/write-ip.ts';

const [GUEST, PEER] = [
  [0x90, 0x13, 10, 0, 0, 2],
  [0xa0, 0x13, 10, 0, 0, 1],
];
const [OWN, OTHER] = [Uint8Array.of(10, 0, 0, 2), Uint8Array.of(10, 0, 0, 1)];
const ICMP_AT = ETH.payload + IPV4.header;

const hex = (text: string) => Buffer.from(text.replaceAll(' ', ''), 'hex');

t.test('ARP: who has it is told, at the MAC that follows from the address', async (t) => {
  const asked = hex(
    'ffffffffffff 90130a000002 0806 0001 0800 06 04 0001 90130a000002 0a000002 000000000000 0a000001',
  );
  const before = Buffer.from(asked);
  t.strictSame(
    Buffer.from(echoAnswer(asked) ?? []).toString('hex'),
    hex(
      '90130a000002 a0130a000001 0806 0001 0800 06 04 0002 a0130a000001 0a000001 90130a000002 0a000002',
    ).toString('hex'),
  );
  t.strictSame(asked, before, 'what was asked is left as it is');
  const announced = Buffer.from(asked);
  announced.set(OWN, 38);
  t.equal(echoAnswer(announced), null, 'nobody has the address of who asks');
  const reply = Buffer.from(asked);
  reply[21] = 2;
  t.equal(echoAnswer(reply), null);
});

/** An echo request with `size` bytes of data. */
function request(size: number): Buffer {
  const frame = Buffer.alloc(ICMP_AT + ICMP.header + size, 0x5a);
  writeEthernet(frame, PEER as number[], GUEST as number[], 4);
  writeIp(frame, ETH.payload, OWN, OTHER, 1, ICMP.header + size);
  frame[ICMP_AT + ICMP.type] = 8;
  frame[ICMP_AT + ICMP.code] = 0;
  writeU16(frame, ICMP_AT + ICMP.checksum, 0);
  writeU16(frame, ICMP_AT + ICMP.checksum, checksum(frame, ICMP_AT, ICMP.header + size));
  return frame;
}

t.test('a ping comes back with its data, and right checksums', async (t) => {
  for (const size of [0, 1, 56, 1192, 65_465]) {
    const asked = request(size);
    const answer = echoAnswer(asked);
    if (!answer) throw new Error(`no answer to ${size} bytes`);
    t.strictSame([...answer.subarray(0, 12)], [...(GUEST as number[]), ...(PEER as number[])]);
    t.strictSame([...answer.subarray(26, 34)], [...OTHER, ...OWN]);
    t.equal(answer[ICMP_AT], 0);
    t.equal(checksum(answer, ETH.payload, IPV4.header), 0, 'of the header');
    t.equal(checksum(answer, ICMP_AT, ICMP.header + size), 0, `of ${size} bytes`);
    t.ok(asked.subarray(ICMP_AT + 4).equals(answer.subarray(ICMP_AT + 4)));
  }
});

t.test('nothing else is answered, and nothing is read that is not there', async (t) => {
  const good = request(56);
  const change = (at: number, value: number) => {
    const frame = Buffer.from(good);
    frame[at] = value;
    return frame;
  };
  const cases: [string, Buffer][] = [
    ['a reply', change(ICMP_AT, 0)],
    ['UDP', change(ETH.payload + IPV4.protocol, 17)],
    ['a fragment', change(ETH.payload + IPV4.fragment, 0x20)],
    ['a header that is too short', change(ETH.payload, 0x44)],
    ['a header that is longer than all', change(ETH.payload, 0x4f).subarray(0, ICMP_AT + 8)],
    ['longer than the frame', change(ETH.payload + IPV4.totalLength, 0xff)],
    ['IPv6', change(ETH.type, 0x86)],
  ];
  for (const [name, frame] of cases) t.equal(echoAnswer(frame), null, name);
  for (let length = 0; length < good.length; length++) {
    if (echoAnswer(good.subarray(0, length)) !== null) t.fail(`${length} bytes are no ping`);
  }
});
