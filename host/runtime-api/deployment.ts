/** `deployment.json` in the work folder: what `deploy` decided, for `start` of the same program. Its form is private. */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  type Check,
  integer,
  list,
  number,
  object,
  oneOf,
  optional,
  text,
} from '../../guest/protocol/check.ts';
import type { DiskErrors } from '../../guest/protocol/messages.ts';
import { hasErrno, YavmError } from '../lib/errors.ts';
import type { VmSpec, VolumeDisk } from '../runtime/types.ts';
import type { VolumePlan } from '../runtime/volume-plan.ts';
import type { HostVolume } from './volumes.ts';

export interface Deployment {
  /** Of this form. */
  form: number;
  /** Absolute paths of the images, topmost first. */
  layers: string[];
  cpus: number;
  memoryMiB: number;
  root: VmSpec['root'];
  hostname: string;
  mounts: VolumePlan['mounts'];
  disks: VolumeDisk[];
  volumes: HostVolume[];
  /** Of the topmost image. */
  config: ImageDefaults;
}

/** What an image says about its commands. */
export interface ImageDefaults {
  env: string[];
  workingDir?: string;
  user?: string;
  entrypoint: string[];
  cmd: string[];
}

export const DEPLOYMENT_FORM = 2;
const FILE = 'deployment.json';
const MAX_FILE = 8 * 1024 * 1024;
const MAX_PATH = 4096;
const MAX_WORD = 128 * 1024;

const path = text(MAX_PATH);
const words = list(text(MAX_WORD), 8192);
const size = integer(1);

const ram = object<{ ram: number }>({ ram: size });
const options = {
  preallocate: optional(integer(0)),
  errors: optional(oneOf<DiskErrors>('continue', 'remount-ro', 'panic')),
};
const disk = object<Extract<VmSpec['root'], { disk: number }>>({ disk: size, ...options });
const root: Check<VmSpec['root']> = (value) =>
  typeof value === 'object' && value !== null && 'ram' in value ? ram(value) : disk(value);

const mount = object<Deployment['mounts'][number]>({ kind: oneOf('ram'), size, path });

const deployment = object<Deployment>({
  form: integer(DEPLOYMENT_FORM, DEPLOYMENT_FORM),
  layers: list(path, 64, 1),
  cpus: integer(1, 4096),
  memoryMiB: number(1, 2 ** 40),
  root,
  hostname: text(256),
  mounts: list(mount, 1024),
  disks: list(object<VolumeDisk>({ path, size, ...options }), 64),
  volumes: list(object<HostVolume>({ name: text(256), path }), 1024),
  config: object<ImageDefaults>({
    env: words,
    workingDir: optional(path),
    user: optional(text(256)),
    entrypoint: words,
    cmd: words,
  }),
});

/** @throws {YavmError} YAVM_E_DEPLOYMENT: there is none, or it is none of ours */
export function readDeployment(workFolder: string): Deployment {
  const file = join(workFolder, FILE);
  try {
    const content = readFileSync(file, 'utf8');
    if (content.length > MAX_FILE) throw new Error(`longer than ${MAX_FILE} characters`);
    return deployment(JSON.parse(content));
  } catch (cause) {
    const missing = hasErrno(cause, 'ENOENT');
    throw new YavmError('YAVM_E_DEPLOYMENT', missing ? `${file} is not there` : `${file}: not a deployment`, {
      cause: missing ? undefined : cause,
      hint: missing ? "'deploy' with the same --workdir makes it." : "Run 'deploy' again.",
    });
  }
}

/** Whole or not at all. @throws {YavmError} YAVM_E_DEPLOYMENT */
export function writeDeployment(workFolder: string, content: Deployment): void {
  const file = join(workFolder, FILE);
  try {
    writeFileSync(`${file}.new`, `${JSON.stringify(content)}\n`, { mode: 0o600 });
    renameSync(`${file}.new`, file);
  } catch (cause) {
    throw new YavmError('YAVM_E_DEPLOYMENT', `${file} cannot be written`, { cause });
  }
}
