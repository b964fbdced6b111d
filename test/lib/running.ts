/** Commands of a VM that a test talks to while they run, and waits for what they do. */
import { sleep } from '../../host/lib/deadline.ts';
import type { Command, Vm } from '../../host/runtime/index.ts';
import { commandSpec, type Run } from './vm.ts';

/** For what happens soon, but at no moment that the protocol tells, milliseconds. */
const SOON = 60_000;
const POLL_INTERVAL = 20;

/** A command with the text of its streams so far. */
export interface Running {
  command: Command;
  stdout(): string;
  stderr(): string;
}

/** Starts a command, and keeps what it writes. */
export async function start(vm: Vm, what: Run): Promise<Running> {
  const texts = { stdout: '', stderr: '' };
  const keep = (stream: keyof typeof texts) => (piece: Uint8Array) => {
    texts[stream] += Buffer.from(piece).toString('latin1');
  };
  const command = await vm.run(commandSpec(what), { stdout: keep('stdout'), stderr: keep('stderr') });
  return { command, stdout: () => texts.stdout, stderr: () => texts.stderr };
}

/** Waits until `is` holds. @throws {Error} naming `what`, when it still does not after {@link SOON} ms. */
export async function eventually(what: string, is: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + SOON;
  while (!(await is())) {
    if (performance.now() > deadline) throw new Error(`not within ${SOON / 1000} s: ${what}`);
    await sleep(POLL_INTERVAL);
  }
}
