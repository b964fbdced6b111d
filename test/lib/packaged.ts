/** What `make dist` made, for the tests that `make dist-test` runs. */
import { existsSync, readFileSync } from 'node:fs';
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
