/** The tests' own program for networks in a guest (guest-net.c): compiled once, put into each VM that needs it. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Vm } from '../../host/runtime/index.ts';
import { shell } from './vm.ts';

const SOURCE = join(import.meta.dirname, 'guest-net.c');
const WARNINGS = ['-Wall', '-Wextra', '-Werror'];
/** Where it is in the guest. */
export const GUEST_NET = '/bin/guest-net';

let program: Buffer | null = null;

/** @throws {Error} when it cannot be compiled: musl-gcc is what the build itself needs */
export function guestNet(): Buffer {
  if (program) return program;
  const folder = mkdtempSync(join(tmpdir(), 'yavm-guest-net-'));
  try {
    const file = join(folder, 'guest-net');
    execFileSync('musl-gcc', ['-static', '-O2', '-s', ...WARNINGS, '-o', file, SOURCE]);
    program = readFileSync(file);
    return program;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Has it in the VM from now on, as `guest-net`. */
export async function putGuestNet(vm: Vm): Promise<void> {
  await shell(vm, `cat > ${GUEST_NET} && chmod 755 ${GUEST_NET}`, { input: guestNet() });
}
