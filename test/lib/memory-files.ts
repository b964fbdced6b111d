/** A VM's files without a VM: paths and contents. Trees are not packed: a tar is kept as it came. */
import type { GuestFiles } from '../../host/transfer/container.ts';
import type { Bytes } from '../../host/transfer/types.ts';

export class MemoryFiles implements GuestFiles {
  readonly contents = new Map<string, Buffer>();

  async readFiles(path: string, sink: (bytes: Uint8Array) => void | Promise<void>): Promise<void> {
    const content = this.contents.get(path);
    if (content === undefined) throw new Error(`${path}: no such file`);
    for (let at = 0; at < content.length; at += PORTION) await sink(content.subarray(at, at + PORTION));
  }

  async writeFiles(path: string, source: Bytes): Promise<void> {
    const pieces: Uint8Array[] = [];
    // What fails leaves nothing.
    for await (const piece of source) pieces.push(Uint8Array.from(piece));
    this.contents.set(path, Buffer.concat(pieces));
  }
}

/** Bytes at a time, as a guest's credit brings them. */
const PORTION = 128 * 1024;
