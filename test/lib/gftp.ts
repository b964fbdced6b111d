/** A requestor's side of gftp that is not there, and ends of transfers to hold against one that is. */
import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { connectGsb } from '../../host/gsb/connection.ts';
import type { Flex } from '../../host/gsb/types.ts';
import { silentLogger } from '../../host/lib/logger.ts';
import { LocalNode } from '../../host/node/node.ts';
import type { Bytes } from '../../host/transfer/types.ts';
import { socketFolder } from './gsb-peer.ts';
import { FakeBus, type FakeCall } from './supervisor-bus.ts';

export const NODE = `0x${'ab'.repeat(20)}`;
export const CHUNK = 40_960;

/** Answers for a published file; `lie` may answer instead. */
export function publisherOf(
  content: Uint8Array,
  lie: (message: string, call: FakeCall) => Promise<Flex> | Flex | undefined = () => undefined,
): FakeBus {
  const bus = new FakeBus();
  bus.answer = async (call) => {
    const message = call.address.slice(call.address.lastIndexOf('/') + 1);
    const lied = await lie(message, call);
    if (lied !== undefined) return lied;
    if (message === 'GetMetadata') return { fileSize: content.length };
    if (message !== 'GetChunk') throw new Error(`a publisher got ${message}`);
    const { offset, size } = call.body as { offset: number; size: number };
    return { offset, content: content.subarray(offset, offset + size) };
  };
  return bus;
}

/** Takes an upload; what came is in `content`, and in `hash` what its sender said about it. */
export function receiverOf(
  lie: (message: string, call: FakeCall) => Promise<Flex> | Flex | undefined = () => undefined,
) {
  const bus = new FakeBus();
  const pieces: Uint8Array[] = [];
  const receiver = {
    bus,
    offsets: [] as number[],
    hash: undefined as Flex | undefined,
    content: () => Buffer.concat(pieces),
  };
  bus.answer = async (call) => {
    const message = call.address.slice(call.address.lastIndexOf('/') + 1);
    if (message === 'UploadChunk') {
      const { offset, content } = call.body.chunk as { offset: number; content: Uint8Array };
      receiver.offsets.push(offset);
      // The sender may use its memory again.
      pieces.push(Uint8Array.from(content));
    }
    if (message === 'UploadFinished') receiver.hash = call.body.hash;
    return (await lie(message, call)) ?? null;
  };
  return receiver;
}

/** All of it. */
export async function collect(bytes: Bytes): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const piece of bytes) pieces.push(Uint8Array.from(piece));
  return Buffer.concat(pieces);
}

/** Bytes that differ from place to place, in pieces of one size. */
export async function* pattern(size: number, piece: number = 65_536): Bytes {
  for (let at = 0; at < size; at += piece) {
    const bytes = Buffer.alloc(Math.min(piece, size - at), (at / piece) % 251);
    if (bytes.length >= 6) bytes.writeUIntLE(at, 0, 6);
    yield bytes;
  }
}

export async function sha3Of(bytes: Bytes | Iterable<Uint8Array>): Promise<string> {
  const hash = createHash('sha3-256');
  for await (const piece of bytes) hash.update(piece);
  return hash.digest('hex');
}

interface Owner {
  teardown(end: () => unknown): unknown;
}

/** A node, its own connection, and one of a supervisor's. */
export async function startNode(t: Owner) {
  const folder = socketFolder(t);
  const address = { kind: 'unix', path: join(folder, 'gsb.sock') } as const;
  const node = await LocalNode.start({ address, logger: silentLogger });
  t.teardown(() => node.close());
  const gsb = connectGsb({ address, logger: silentLogger });
  t.teardown(() => gsb.close());
  return { folder, address, node, gsb };
}

/** A file of {@link pattern}. */
export async function writePattern(path: string, size: number): Promise<void> {
  const handle = await open(path, 'w');
  for await (const piece of pattern(size)) await handle.write(piece);
  await handle.close();
}
