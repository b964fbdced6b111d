/**
 * Which packages have NVIDIA's driver, as data. Debian's have no release in their names, and apt's index has one or two of
 * them; Ubuntu's are named after the driver's branch (`%B`, 550) and some after its whole version (`%V`). Pure.
 */

export interface Distribution {
  name: string;
  /** Its version is that of the driver. */
  anchor: string;
  /** Of which each must be there, in the anchor's version. */
  required: readonly string[];
  /** Taken where they are, in the anchor's version when there is such a one, else in apt's choice. */
  optional: readonly string[];
  /** Sources of kernel modules, as dkms takes them. */
  modules: Readonly<Record<ModuleKind, string>>;
}

/** Open ones are for Turing and newer. */
export type ModuleKind = 'open' | 'proprietary';

export const DISTRIBUTIONS: readonly Distribution[] = [
  {
    name: 'Debian',
    anchor: 'libcuda1',
    required: ['libcuda1', 'libnvidia-ml1', 'firmware-nvidia-gsp'],
    optional: [
      ...['nvidia-smi', 'nvidia-persistenced', 'libnvidia-cfg1', 'libnvidia-ptxjitcompiler1'],
      ...['libnvidia-nvvm4', 'libnvidia-gpucomp', 'libnvidia-pkcs11-openssl3', 'libnvidia-sandboxutils'],
      ...['nvidia-opencl-icd', 'nvidia-opencl-common', 'libnvcuvid1', 'libnvidia-encode1'],
      ...['libnvidia-opticalflow1', 'libnvidia-fbc1', 'libnvoptix1', 'libnvidia-rtcore', 'libnvidia-ngx1'],
      ...['libnvidia-allocator1', 'libglx-nvidia0', 'libegl-nvidia0', 'libgles-nvidia1', 'libgles-nvidia2'],
      ...['libnvidia-eglcore', 'libnvidia-glcore', 'libnvidia-glvkspirv', 'libnvidia-glsi', 'libnvidia-tls'],
      ...['nvidia-vulkan-common', 'nvidia-vulkan-icd', 'nvidia-egl-common', 'nvidia-egl-icd'],
    ],
    modules: { open: 'nvidia-open-kernel-dkms', proprietary: 'nvidia-kernel-dkms' },
  },
  {
    name: 'Ubuntu',
    anchor: 'libnvidia-compute-%B',
    required: ['libnvidia-compute-%B', 'nvidia-firmware-%B-%V'],
    optional: [
      ...['nvidia-utils-%B', 'nvidia-compute-utils-%B', 'libnvidia-cfg1-%B', 'libnvidia-extra-%B'],
      ...['libnvidia-decode-%B', 'libnvidia-encode-%B', 'libnvidia-fbc1-%B', 'libnvidia-gl-%B'],
    ],
    modules: { open: 'nvidia-kernel-source-%B-open', proprietary: 'nvidia-kernel-source-%B' },
  },
];

/** A package's name for a driver's version. */
export function packageName(pattern: string, driverVersion: string): string {
  const branch = driverVersion.split('.')[0] as string;
  return pattern.replaceAll('%B', branch).replaceAll('%V', driverVersion);
}

/** `550.163.01` of a package's `1:550.163.01-2~deb12u1`. */
export function upstreamVersion(version: string): string {
  return version.replace(/^\d+:/, '').replace(/-[^-]*$/, '');
}

/** Whether a version is what was asked for: all of it, or its beginning: `550`, `550.163`. */
export function isVersion(version: string, wanted: string): boolean {
  const upstream = upstreamVersion(version);
  return version === wanted || upstream === wanted || upstream.startsWith(`${wanted}.`);
}

/** NVIDIA's own installer prefers open modules since 560; before, they were not meant for all cards that they know. */
export function usualModules(driverVersion: string): ModuleKind {
  return Number(driverVersion.split('.')[0]) >= 560 ? 'open' : 'proprietary';
}

/** Names on a package's Depends line with their versions, where one is fixed (`=`); of alternatives the first. */
export function dependsOf(control: string): { name: string; version: string | null }[] {
  const line = /^Depends:(.*(?:\n[ \t].*)*)/m.exec(control)?.[1] ?? '';
  return line.split(',').flatMap((each) => {
    const match = /^\s*([a-z0-9][a-z0-9+.-]*)(?::\w+)?(?:\s*\(=\s*([^)\s]+)\s*\))?/.exec(each);
    return match ? [{ name: match[1] as string, version: match[2] ?? null }] : [];
  });
}
