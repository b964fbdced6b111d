/** Templates that no QEMU has made, for tests of where they are kept. */
import { mkdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { sparseChecksum } from '../../host/runtime/template/checksum.ts';
import { stampOf, type TemplateRecord } from '../../host/runtime/template/record.ts';
import { notificationExamples } from './messages.ts';

/** Bytes of the memory of one. */
export const RAM_SIZE = 128 * 1024;

/** A key: all digits are the last one of `index`. */
export function templateKey(index: number): string {
  return (index % 16).toString(16).repeat(32);
}

/** Puts a template there as if it had been made; `changes` replaces any of its record. */
export async function putTemplate(
  folder: string,
  key: string,
  changes: Partial<TemplateRecord> = {},
): Promise<TemplateRecord> {
  const own = join(folder, key);
  mkdirSync(own);
  const file = async (name: string, bytes: Buffer) => {
    const path = join(own, name);
    writeFileSync(path, bytes);
    return { stamp: stampOf(statSync(path, { bigint: true })), sha256: await sparseChecksum(path) };
  };
  const hello = { ...notificationExamples.hello, agent: '1.2.3' };
  const record: TemplateRecord = {
    key,
    made: '2026-01-01T00:00:00.000Z',
    accel: 'tcg',
    cpuModel: 'max',
    cpus: 1,
    memoryMiB: 256,
    kernel: '6.1.0',
    hello,
    ram: await file('ram', Buffer.alloc(RAM_SIZE, key)),
    state: await file('state', Buffer.from('the state')),
    ...changes,
  };
  writeFileSync(join(own, 'template.json'), JSON.stringify(record));
  return record;
}
