/** The pty behind a VM's serial console, which QEMU has chosen. */
import type { Qmp } from './qmp.ts';

/** `/dev/pts/N`; null when QEMU tells of none. @throws {YavmError} YAVM_E_QMP, YAVM_E_TIMEOUT */
export async function findConsolePath(monitor: Qmp): Promise<string | null> {
  return consolePath(await monitor.execute('query-chardev'));
}

/** From `query-chardev`'s answer: the pty behind the chardev `console`. */
function consolePath(answer: unknown): string | null {
  for (const device of Array.isArray(answer) ? answer : []) {
    const { label, filename } = (device ?? {}) as Record<string, unknown>;
    const [, path] = label === 'console' ? (String(filename).match(/^pty:(\/dev\/pts\/\d+)$/) ?? []) : [];
    if (path) return path;
  }
  return null;
}
