/** A reader of pcapng files that shares nothing with their writer (host/network/pcap-blocks.ts). */
import { readFileSync } from 'node:fs';

interface Options {
  [code: number]: Buffer;
}

interface Block {
  type: number;
  body: Buffer;
}

function blocksOf(file: Buffer): Block[] {
  const blocks: Block[] = [];
  for (let at = 0; at < file.length; ) {
    const length = file.readUInt32LE(at + 4);
    if (length % 4 !== 0 || length < 12 || at + length > file.length) throw new Error(`no block at ${at}`);
    if (file.readUInt32LE(at + length - 4) !== length) throw new Error(`two lengths at ${at}`);
    blocks.push({ type: file.readUInt32LE(at), body: file.subarray(at + 8, at + length - 4) });
    at += length;
  }
  return blocks;
}

function optionsOf(bytes: Buffer): Options {
  const options: Options = {};
  for (let at = 0; at < bytes.length; ) {
    const [code, length] = [bytes.readUInt16LE(at), bytes.readUInt16LE(at + 2)];
    if (code === 0) return options;
    options[code] = bytes.subarray(at + 4, at + 4 + length);
    at += 4 + Math.ceil(length / 4) * 4;
  }
  throw new Error('options without an end');
}

export interface Packet {
  nic: number;
  /** Since the epoch. */
  microseconds: number;
  frame: Buffer;
  original: number;
  /** 1: to the guest, 2: from it. */
  flags: number;
}

export interface Reading {
  nics: { link: number; snap: number; name: string; resolution: number }[];
  packets: Packet[];
  statistics: { nic: number; received: bigint; dropped: bigint; start: number; end: number }[];
}

const timeOf = (bytes: Buffer) => bytes.readUInt32LE(0) * 2 ** 32 + bytes.readUInt32LE(4);

/** @throws {Error} for what is no whole pcapng */
export function readCapture(path: string): Reading {
  const [section, ...rest] = blocksOf(readFileSync(path));
  if (section?.type !== 0x0a0d0d0a || section.body.readUInt32LE(0) !== 0x1a2b3c4d)
    throw new Error('no pcapng');
  const reading: Reading = { nics: [], packets: [], statistics: [] };
  for (const { type, body } of rest) {
    if (type === 1) {
      const options = optionsOf(body.subarray(8));
      const [name = Buffer.alloc(0), resolution] = [options[2], options[9]];
      reading.nics.push({
        link: body.readUInt16LE(0),
        snap: body.readUInt32LE(4),
        name: name.toString(),
        resolution: resolution?.[0] ?? 6,
      });
    } else if (type === 6) {
      const kept = body.readUInt32LE(12);
      const options = optionsOf(body.subarray(20 + Math.ceil(kept / 4) * 4));
      reading.packets.push({
        nic: body.readUInt32LE(0),
        microseconds: timeOf(body.subarray(4)),
        frame: body.subarray(20, 20 + kept),
        original: body.readUInt32LE(16),
        flags: (options[2] as Buffer).readUInt32LE(0),
      });
    } else if (type === 5) {
      const options = optionsOf(body.subarray(12));
      const count = (code: number) => (options[code] as Buffer).readBigUInt64LE(0);
      reading.statistics.push({
        nic: body.readUInt32LE(0),
        received: count(4),
        dropped: count(5),
        start: timeOf(options[2] as Buffer),
        end: timeOf(options[3] as Buffer),
      });
    } else throw new Error(`a block of type ${type}`);
  }
  return reading;
}
