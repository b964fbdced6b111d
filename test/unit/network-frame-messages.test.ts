/** Frames that ours sends itself: ARP, echo, neighbour discovery. */
import t from 'tap';
import { parseIp } from '../../host/network/frame/address.ts';
import { buildArp } from '../../host/network/frame/arp.ts';
import { checksum, pseudoHeaderSum } from '../../host/network/frame/checksum.ts';
import {
  buildEcho,
  buildNeighborAdvertisement,
  buildNeighborSolicitation,
} from '../../host/network/frame/icmp.ts';
import { readU16 } from '../../host/network/frame/layout.ts';
import { parseMac } from '../../host/network/frame/mac.ts';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const mac = (end: number) => parseMac(`90:13:0a:05:00:0${end}`);

t.test('an ARP request is what upstream’s peers send (recording vpn)', async (t) => {
  const request = buildArp({
    operation: 'request',
    senderMac: parseMac('a0:13:00:00:00:01'),
    senderIp: parseIp('192.168.8.1'),
    targetIp: parseIp('192.168.8.7'),
  });
  t.equal(
    hex(request),
    'ffffffffffffa0130000000108060001080006040001a01300000001c0a80801000000000000c0a80807',
  );
});

t.test('an ARP reply goes to who asked', async (t) => {
  const ends = { senderMac: mac(2), senderIp: parseIp('10.5.0.2'), targetIp: parseIp('10.5.0.1') };
  const reply = buildArp({ operation: 'reply', ...ends, targetMac: mac(1) });
  t.equal(
    hex(reply),
    '90130a05000190130a05000208060001080006040002' + '90130a0500020a050002' + '90130a0500010a050001',
  );
});

/** Of the ICMP message in a frame: right sums give zero. */
function sums(frame: Uint8Array): number[] {
  const isFour = readU16(frame, 12) === 0x0800;
  if (isFour) return [checksum(frame, 14, 20), checksum(frame, 34, frame.length - 34)];
  const size = frame.length - 54;
  return [checksum(frame, 54, size, pseudoHeaderSum(frame, 22, 16, 58, size))];
}

t.test('echo requests and replies', async (t) => {
  const data = Buffer.from('some odd bytes!');
  for (const [kind, from, to, type] of [
    ['request', '10.5.0.2', '10.5.0.1', 8],
    ['reply', '10.5.0.2', '10.5.0.1', 0],
    ['request', 'fd00::2', 'fd00::1', 128],
    ['reply', 'fd00::2', 'fd00::1', 129],
  ] as const) {
    const ends = {
      sourceMac: mac(2),
      destinationMac: mac(1),
      source: parseIp(from),
      destination: parseIp(to),
    };
    const frame = buildEcho(ends, { kind, id: 0xabcd, sequence: 0x1234, data });
    const icmp = from.includes(':') ? 54 : 34;
    t.equal(frame[icmp], type);
    t.equal(hex(frame.subarray(icmp + 4)), `abcd1234${hex(data)}`);
    t.ok(
      sums(frame).every((sum) => sum === 0),
      `${kind} ${from}: checksums`,
    );
  }
});

t.test('neighbour discovery', async (t) => {
  const [us, them] = [parseIp('fd00::2'), parseIp('fd00::abcd:ef01')];
  const solicitation = buildNeighborSolicitation(mac(2), us, them);
  t.equal(hex(solicitation.subarray(0, 6)), '3333ffcdef01', 'to the group’s MAC');
  t.equal(hex(solicitation.subarray(38, 54)), 'ff0200000000000000000001ffcdef01');
  t.equal(solicitation[21], 255, 'hop limit');
  t.equal(hex(solicitation.subarray(62, 78)), hex(them));
  t.equal(hex(solicitation.subarray(78)), '010190130a050002', 'with its own MAC');
  t.same(sums(solicitation), [0]);
  const ends = { sourceMac: mac(1), destinationMac: mac(2), source: them, destination: us };
  const advertisement = buildNeighborAdvertisement(ends);
  t.equal(advertisement[54], 136);
  t.equal(advertisement[21], 255);
  t.equal(hex(advertisement.subarray(62)), `${hex(them)}020190130a050001`);
  t.same(sums(advertisement), [0]);
});
