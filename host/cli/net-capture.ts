/** `ya-vm net capture`: writes what a VM's network interfaces see, until somebody has seen enough. */
import { stat } from 'node:fs/promises';
import { formatSize } from '../lib/size.ts';
import { note } from './context.ts';
import { EXIT } from './exit.ts';
import { Interrupted } from './interrupts.ts';
import type { Watched } from './net.ts';

/** @throws {YavmError} YAVM_E_NET_CAPTURE */
export async function netCapture({ context, id, control, signal }: Watched, file: string): Promise<number> {
  await control.capture(file);
  await note(context, `VM ${id} is captured to ${file}; Ctrl-C ends it`);
  const interrupted = new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
  const gone = await Promise.race([control.ended.then(() => true), interrupted.then(() => false)]);
  // The VM's process completes it by itself when it ends.
  if (!gone) await control.capture(null);
  const size = await stat(file).then(
    ({ size }) => formatSize(size),
    () => 'nothing',
  );
  await note(context, `${gone ? `VM ${id} has ended; ` : ''}${file}: ${size}`);
  const { reason } = signal;
  return reason instanceof Interrupted && reason.signal !== 'SIGINT' ? reason.exitCode : EXIT.ok;
}
