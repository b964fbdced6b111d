/** The environment that counts: the process's, and what a `.env` file adds, as upstream's exe-unit has it (3.1). */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { parseEnv } from 'node:util';
import { hasErrno, YavmError } from '../lib/errors.ts';

type Environment = Readonly<Record<string, string | undefined>>;

const MAX_FILE = 256 * 1024;

/**
 * `env` with the entries of the first `.env` found from `folder` upwards; the process's own come first.
 * @throws {YavmError} YAVM_E_ENV_FILE for one that cannot be read
 */
export function withDotEnv(env: Environment, folder: string): Environment {
  for (let place = folder; ; place = dirname(place)) {
    const file = join(place, '.env');
    try {
      const text = readFileSync(file, 'utf8');
      return text.length > MAX_FILE ? env : { ...parseEnv(text), ...env };
    } catch (cause) {
      const absent = ['ENOENT', 'ENOTDIR', 'EISDIR', 'EACCES'].some((errno) => hasErrno(cause, errno));
      if (!absent) throw new YavmError('YAVM_E_ENV_FILE', `${file}: cannot be read`, { cause });
    }
    if (place === dirname(place)) return env;
  }
}
