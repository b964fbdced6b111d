/** Where descriptors are put, and looked for. Pure but for a look whether a folder is there. */
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { YavmError } from '../lib/errors.ts';
import {
  DEFAULT_PATTERN,
  DESCRIPTOR_FILE,
  matches,
  type PluginPlace,
  parseExeUnitPath,
} from './descriptor.ts';

type Environment = Readonly<Record<string, string | undefined>>;

export interface PlaceOptions {
  /** This folder, whatever else. */
  folder?: string;
  /** The system's place. */
  system?: boolean;
}

/** The provider's own default. */
export const SYSTEM_FOLDER = '/usr/lib/yagna/plugins';

/** golemsp's, when it is there. */
export function userFolder(env: Environment): string | null {
  return env.HOME?.startsWith('/') ? join(env.HOME, '.local/lib/yagna/plugins') : null;
}

/**
 * `--dir`, `--system`, `$EXE_UNIT_PATH`'s folder, or the user's place; root without a user's place uses the system's.
 * @throws {YavmError} YAVM_E_DESCRIPTOR when the provider would not read our file there
 */
export function installPlace(options: PlaceOptions, env: Environment): PluginPlace {
  const place = choosePlace(options, env);
  if (matches(place, DESCRIPTOR_FILE)) return place;
  throw new YavmError(
    'YAVM_E_DESCRIPTOR',
    `EXE_UNIT_PATH names ${join(place.folder, place.pattern)}, which ${DESCRIPTOR_FILE} does not match`,
    { hint: `Set EXE_UNIT_PATH=${join(place.folder, DEFAULT_PATTERN)}, for the provider too.` },
  );
}

function choosePlace({ folder, system }: PlaceOptions, env: Environment): PluginPlace {
  if (folder !== undefined) return { folder: resolve(folder), pattern: DEFAULT_PATTERN };
  if (system) return { folder: SYSTEM_FOLDER, pattern: DEFAULT_PATTERN };
  if (env.EXE_UNIT_PATH) return parseExeUnitPath(env.EXE_UNIT_PATH);
  return { folder: userFolder(env) ?? SYSTEM_FOLDER, pattern: DEFAULT_PATTERN };
}

/** Where a provider that is started with this environment looks: golemsp takes the user's place when it exists. */
export function providerPlace(options: PlaceOptions, env: Environment): PluginPlace {
  if (options.folder !== undefined || options.system || env.EXE_UNIT_PATH) return choosePlace(options, env);
  const user = userFolder(env);
  const folder = user !== null && existsSync(user) ? user : SYSTEM_FOLDER;
  return { folder, pattern: DEFAULT_PATTERN };
}
