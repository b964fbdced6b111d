/** Runs a test file in namespaces of its own, so that what it mounts, names or configures is gone with it. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/**
 * Words before a program's: they run `scripts` of a shell, each around what follows it (`exec "$@"`), in a mount namespace
 * of their own. Needs root.
 */
export function withMounts(...scripts: string[]): string[] {
  const shells = scripts.flatMap((script) => ['sh', '-c', script, 'sh']);
  return ['unshare', '--mount', '--propagation', 'private', ...shells];
}

/** Says to the second run that it is inside. */
const MARK = 'YAVM_TEST_NAMESPACES';

/** What a test file has to itself, as `unshare` calls it. */
const ALL = ['--mount', '--net', '--uts', '--ipc'];

/**
 * True inside. Outside: runs the file once more in new mount, network, host name and IPC namespaces (or those that `kinds` names), with the same
 * output, and ends this process with its code; without root, the file is one skipped test. Call it before anything is asserted. `module`: `import.meta.url`.
 */
export function inNamespaces(module: string, kinds: readonly string[] = ALL): boolean {
  if (process.env[MARK] === '1') return true;
  if (process.getuid?.() !== 0) {
    console.log('TAP version 14\nok 1 - this file # SKIP needs root, for namespaces and mounts\n1..1');
    process.exit(0);
  }
  const unshare = [...kinds, '--propagation', 'private', '--'];
  const { status, error } = spawnSync(
    'unshare',
    [...unshare, process.execPath, ...process.execArgv, fileURLToPath(module)],
    { stdio: 'inherit', env: { ...process.env, [MARK]: '1' } },
  );
  if (error) throw error;
  process.exit(status ?? 1);
}
