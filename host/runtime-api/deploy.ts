/** `deploy`: looks at the images, decides what the VM is made of, and writes that down. Spec: runtime-vm.md 3. */
import { randomUUID } from 'node:crypto';
import { realpathSync } from 'node:fs';
import { join } from 'node:path';
import { verifyImage } from '../image/verify.ts';
import { YavmError } from '../lib/errors.ts';
import { makeFolders } from '../lib/make-folders.ts';
import { checkSpec } from '../runtime/vm-plan.ts';
import { planVolumes } from '../runtime/volume-plan.ts';
import { DEPLOYMENT_FORM, type Deployment, type ImageDefaults, writeDeployment } from './deployment.ts';
import { parseOverride, sharesOf } from './volumes.ts';

export interface DeployOptions {
  workFolder: string;
  /** Image files, topmost first. */
  packages: readonly string[];
  cpus: number;
  memoryGib: number;
  /** Quota of all that the VM keeps on disk. */
  storageGib: number;
  hostname: string;
  /** JSON of `--volume-override`. */
  volumeOverride?: string;
  /** Compressions that the guest's kernel reads; all, when not known. */
  compressors?: readonly string[];
}

/** What the supervisor reads; the spec's exe-unit.md 9.4. */
export interface DeployResult {
  startMode: 'blocking';
  valid: { Ok: string };
  vols: { name: string; path: string }[];
}

const GIB = 1024 ** 3;
const NO_DEFAULTS: ImageDefaults = { env: [], entrypoint: [], cmd: [] };

/**
 * @throws {YavmError} YAVM_E_WORK_FOLDER, YAVM_E_VOLUME, YAVM_E_STORAGE_OVERCOMMIT, YAVM_E_VM_SPEC, YAVM_E_DEPLOYMENT; YAVM_E_IMAGE_… with what is wrong with an image
 */
export async function deploy(options: DeployOptions): Promise<DeployResult> {
  const workFolder = realFolder(options.workFolder);
  const override = parseOverride(options.volumeOverride);
  const { compressors } = options;
  const images = [];
  for (const path of options.packages) images.push(await verifyImage(path, { compressors }));
  const config = images[0]?.config;
  const plan = planVolumes(config?.volumes ?? [], override, Math.floor(options.storageGib * GIB));
  // Those that are directories are the supervisor's, which writes and reads their files.
  const volumes = plan.directories.map((path) => ({ name: `vol-${randomUUID()}`, path }));
  const deployment: Deployment = {
    form: DEPLOYMENT_FORM,
    layers: options.packages.map((path) => realpathSync(path)),
    cpus: options.cpus,
    memoryMiB: Math.floor(options.memoryGib * 1024),
    root: plan.root,
    hostname: options.hostname,
    mounts: plan.mounts,
    disks: plan.disks,
    volumes,
    config: defaultsOf(config ?? NO_DEFAULTS),
  };
  // What cannot be built is said now, not when it is started.
  checkSpec({ ...deployment, shares: sharesOf(workFolder, volumes) });
  for (const { name } of volumes) makeFolders(join(workFolder, name));
  writeDeployment(workFolder, deployment);
  return { startMode: 'blocking', valid: { Ok: '' }, vols: volumes };
}

function defaultsOf({ env, workingDir, user, entrypoint, cmd }: ImageDefaults): ImageDefaults {
  return { env, workingDir, user, entrypoint, cmd };
}

function realFolder(path: string): string {
  try {
    makeFolders(path);
    return realpathSync(path);
  } catch (cause) {
    throw new YavmError('YAVM_E_WORK_FOLDER', `${path}: cannot be made the work folder`, { cause });
  }
}
