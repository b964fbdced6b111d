/** What `make dist` made, for the tests that `make dist-test` runs. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { packageName } from '../../build/dist/archives.ts';

const DIST = resolve(import.meta.dirname, '../../build/out/dist');
const VERSION = JSON.parse(readFileSync('package.json', 'utf8')).version as string;

/** The single program. */
export const PROGRAM = join(DIST, 'ya-vm');
/** Debian's package of it. */
export const DEBIAN_PACKAGE = join(DIST, `${packageName(VERSION)}.deb`);

/** Why its tests do not run; false: they do. An ordinary `make test` has no time for them, nor packages that are up to date. */
export function notPackaged(): string | false {
  if (!process.env.YAVM_TEST_PROGRAM) return 'of the packages: make dist-test';
  return !existsSync(DEBIAN_PACKAGE) && 'the packages are not built: make dist';
}

export const OLDER_VERSION = '0.0.9';

/**
 * Writes the program as an older release would be: it says another version, and keeps its kernel in another folder of the
 * cache. It is the same code: its list of what is in it has these words, and others of the same length are put there.
 * @throws {Error} when the list is not found
 */
export function writeOlderProgram(file: string): void {
  const bytes = readFileSync(PROGRAM);
  const known = Buffer.from(`{"version":"${VERSION}","id":"`);
  const older = Buffer.from(`{"version":"${OLDER_VERSION}","id":"${'0'.repeat(32)}`);
  const at = bytes.indexOf(known);
  if (at < 0 || bytes.indexOf(known, at + 1) >= 0 || VERSION.length !== OLDER_VERSION.length) {
    throw new Error(`${PROGRAM} cannot be made an older one`);
  }
  older.copy(bytes, at);
  writeFileSync(file, bytes, { mode: 0o755 });
}

/** The Debian package of {@link writeOlderProgram}, packed quickly; `folder`: an empty one, for what is in between. @returns its path */
export function buildOlderPackage(folder: string): string {
  const [tree, output] = [join(folder, 'tree'), join(folder, 'older.deb')];
  execFileSync('dpkg-deb', ['--raw-extract', DEBIAN_PACKAGE, tree]);
  writeOlderProgram(join(tree, 'usr/bin/ya-vm'));
  const control = join(tree, 'DEBIAN/control');
  writeFileSync(
    control,
    readFileSync(control, 'utf8').replace(/^Version: .*$/m, `Version: ${OLDER_VERSION}`),
  );
  execFileSync('dpkg-deb', ['-Znone', '--build', tree, output], { stdio: 'pipe' });
  return output;
}
