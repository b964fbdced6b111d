/**
 * Kernel sets: kernels with names, for what the one that ya-vm comes with cannot do. A set is a folder with `vmlinux`,
 * `initramfs.cpio.zst` and `manifest.json`: that of `cloud` is the assets', others are built once a user and kept in the
 * cache as `kernels/NAME-VERSION-KEY/`. The key is that of the agent and of the set's definition, so that another
 * version of ya-vm boots its own agent, never this one's.
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { YavmError } from './errors.ts';
import { isSetWhole } from './kernel-check.ts';
import { assetsFolder, cacheFolder } from './paths.ts';
import { checkSignature, trustedKey } from './signature.ts';

type Environment = Readonly<Record<string, string | undefined>>;

export interface KernelSet {
  name: string;
  summary: string;
  /** Debian's package. */
  kernelPackage: string;
  /** Of modules, as `ya-vm initramfs build --preset` takes it; null: what the agent can use. */
  preset: 'generic' | 'gpu' | null;
}

/** What ya-vm comes with. */
const OWN = 'cloud';

export const KERNEL_SETS: readonly KernelSet[] = [
  {
    name: OWN,
    summary: 'what ya-vm comes with: Debian’s kernel for clouds, small and quick to boot',
    kernelPackage: 'linux-image-cloud-amd64',
    preset: null,
  },
  {
    name: 'generic',
    summary: 'Debian’s kernel for everything: 9p, drivers for other virtual hardware and file systems',
    kernelPackage: 'linux-image-amd64',
    preset: 'generic',
  },
  {
    name: 'gpu',
    summary:
      'the same kernel with graphics: QEMU’s cards, AMD’s, Intel’s, and what NVIDIA’s driver builds on',
    kernelPackage: 'linux-image-amd64',
    preset: 'gpu',
  },
];

/** What a VM boots: paths, as the runtime takes them. */
export interface BootFiles {
  kernel: string;
  initramfs: string;
  manifest: string;
}

/** Of a manifest.json, what sets are told by. */
interface SetManifest {
  builder: string;
  kernel: { package: { version: string } | null };
  files: { path: string; sha256?: string }[];
}

/** Largest manifest.json, bytes. */
const MAX_MANIFEST = 16 * 1024 * 1024;

/**
 * What the VMs of a set boot, as it was built (kernel-check.ts), and signed where $YA_VM_KERNEL_KEY asks for it.
 * @param name Default: $YA_VM_KERNEL_SET, else `cloud`.
 * @throws {YavmError} YAVM_E_KERNEL_SET: there is no such set, it is not built, or not whole; YAVM_E_KERNEL_SIGNATURE.
 */
export function bootFiles(env: Environment, name: string = env.YA_VM_KERNEL_SET || OWN): BootFiles {
  const set = findKernelSet(name);
  // What comes with ya-vm is trusted as ya-vm is.
  if (isOwn(set))
    return env.YAVM_ASSETS ? trusted(env, filesIn(assetsFolder(env))) : filesIn(assetsFolder(env));
  const built = builtSets(env, set, setKey(set, env)).at(-1);
  const hint = `ya-vm initramfs sets ${name}`;
  if (built === undefined)
    throw new YavmError(
      'YAVM_E_KERNEL_SET',
      `the kernel set ${name} is not built for this version of ya-vm`,
      { hint },
    );
  const files = trusted(env, filesIn(built));
  // With a signature asked for: or the signed files could be replaced together with what says that they were compared.
  if (!env.YA_VM_KERNEL_KEY && !isSetWhole(built, files))
    throw new YavmError('YAVM_E_KERNEL_SET', `${built}: the kernel set ${name} is damaged`, { hint });
  return files;
}

/**
 * Files that $YA_VM_KERNEL_KEY, a public key, has signed, every byte of them; any, when it is not set.
 * @throws {YavmError} YAVM_E_KERNEL_SIGNATURE
 */
export function trusted<Files extends BootFiles>(env: Environment, files: Files): Files {
  if (!env.YA_VM_KERNEL_KEY) return files;
  checkSignature(files.manifest, trustedKey(env.YA_VM_KERNEL_KEY));
  if (isSetWhole(null, files)) return files;
  throw new YavmError('YAVM_E_KERNEL_SIGNATURE', `${files.kernel}: not what the signed manifest describes`, {
    hint: 'Build it again.',
  });
}

/** @throws {YavmError} YAVM_E_KERNEL_SET */
export function findKernelSet(name: string): KernelSet {
  const set = KERNEL_SETS.find((each) => each.name === name);
  if (set) return set;
  throw new YavmError('YAVM_E_KERNEL_SET', `${JSON.stringify(name)}: no such kernel set`, {
    hint: `There are: ${KERNEL_SETS.map((each) => each.name).join(', ')}.`,
  });
}

/** Whether it is the one that ya-vm comes with: not in the cache, and never built there. */
export function isOwn(set: KernelSet): boolean {
  return set.name === OWN;
}

/** Where sets and the packages that they are made of are kept. */
export function kernelsFolder(env: Environment): string {
  return join(cacheFolder(env), 'kernels');
}

/** Name of a set's folder. `version` is the package's. */
export function setFolderName(set: KernelSet, version: string, key: string): string {
  return `${set.name}-${version.replace(/[^\w.+~-]/g, '_')}-${key}`;
}

/** What tells builds of one set by different versions of ya-vm apart. @throws {YavmError} YAVM_E_ASSETS */
export function setKey(set: KernelSet, env: Environment): string {
  const path = join(assetsFolder(env), 'manifest.json');
  const manifest = readManifest(path);
  const init = manifest?.files?.find((file) => file.path === '/init')?.sha256;
  if (!manifest || init === undefined)
    throw new YavmError('YAVM_E_ASSETS', `${path}: does not say which agent ya-vm comes with`, {
      hint: 'make build, or: ya-vm initramfs build',
    });
  const parts = [set.kernelPackage, set.preset, manifest.builder, init];
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 8);
}

/** Folders of a set's builds, the newest last. @param key Only those with it. */
export function builtSets(env: Environment, set: KernelSet, key?: string): string[] {
  const parent = kernelsFolder(env);
  let names: string[] = [];
  try {
    names = readdirSync(parent);
  } catch {
    // No folder: nothing was built. One that cannot be read is told of by who builds.
  }
  const pattern = new RegExp(`^${set.name}-.*-${key ?? '[0-9a-f]{8}'}$`);
  return names
    .filter((name) => pattern.test(name))
    .flatMap((name) => {
      const folder = join(parent, name);
      const at = statSync(join(folder, 'manifest.json'), { throwIfNoEntry: false });
      return at ? [{ folder, at: at.mtimeMs }] : [];
    })
    .sort((a, b) => a.at - b.at || (a.folder < b.folder ? -1 : 1))
    .map(({ folder }) => folder);
}

export function filesIn(folder: string): BootFiles {
  return {
    kernel: join(folder, 'vmlinux'),
    initramfs: join(folder, 'initramfs.cpio.zst'),
    manifest: join(folder, 'manifest.json'),
  };
}

/** Null: not there, unreadable, or no JSON object. */
function readManifest(path: string): SetManifest | null {
  try {
    if (statSync(path).size > MAX_MANIFEST) return null;
    const value: unknown = JSON.parse(readFileSync(path, 'utf8'));
    return typeof value === 'object' ? (value as SetManifest | null) : null;
  } catch {
    return null;
  }
}
