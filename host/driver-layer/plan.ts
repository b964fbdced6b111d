/** From what was found to what the layer has, and whether its parts fit together. Pure. */
import type { Found, FoundFile, FoundModule } from './collect.ts';
import { LIBRARY_FOLDER, REQUIRED_LIBRARIES, REQUIRED_MODULES } from './contents.ts';
import { DriverLayerError } from './errors.ts';

export interface LayerPlan {
  driverVersion: string;
  kernelRelease: string;
  vermagic: string;
  /** Path in the layer → content. */
  texts: Map<string, Buffer>;
  copies: FoundFile[];
  /** Path in the layer → target. */
  links: Map<string, string>;
}

/** @throws {DriverLayerError} something is missing, or two parts are of different versions or kernels */
export function planLayer(found: Found, wantedRelease?: string): LayerPlan {
  const { modules, libraries, files, firmware } = found;
  requireAll(
    'kernel module',
    REQUIRED_MODULES,
    modules.map(({ file }) => file),
  );
  requireAll(
    'library',
    REQUIRED_LIBRARIES,
    libraries.map(({ library }) => library.name),
  );
  const vermagic = same(
    'kernel',
    modules.map(({ file, info }) => [`${file}.ko`, info.vermagic]),
  );
  const kernelRelease = vermagic.split(' ')[0] as string;
  if (wantedRelease !== undefined && wantedRelease !== kernelRelease) {
    throw new DriverLayerError(`the modules are for kernel ${kernelRelease}, not for ${wantedRelease}`, {
      hint: `Build them against linux-headers-${wantedRelease}, or choose a kernel set of ${kernelRelease}.`,
    });
  }
  const driverVersion = same('driver version', [
    ...modules.flatMap(({ file, info }): [string, string][] =>
      info.version === null ? [] : [[`${file}.ko`, info.version]],
    ),
    ...libraries.map(({ library, version }): [string, string] => [`${library.name}.so`, version]),
  ]);
  const texts = new Map<string, Buffer>();
  const folder = `lib/modules/${kernelRelease}`;
  for (const { file, bytes } of modules) texts.set(`${folder}/updates/${file}.ko`, bytes);
  for (const [name, text] of moduleLists(modules)) texts.set(`${folder}/${name}`, Buffer.from(text));

  const copies = [...files];
  const links = new Map<string, string>();
  for (const { library, version, path } of libraries) {
    const name = `${library.name}.so.${version}`;
    copies.push({ path, target: `${LIBRARY_FOLDER}/${name}`, executable: false });
    if (library.soname) links.set(`${LIBRARY_FOLDER}/${library.soname}`, name);
    if (library.plain) links.set(`${LIBRARY_FOLDER}/${library.name}.so`, library.soname ?? name);
  }
  for (const path of firmware) {
    const name = path.slice(path.lastIndexOf('/') + 1);
    copies.push({ path, target: `lib/firmware/nvidia/${driverVersion}/${name}`, executable: false });
  }
  return { driverVersion, kernelRelease, vermagic, texts, copies, links };
}

/**
 * depmod's lists. Dependencies are what the modules themselves say: they lie in the initramfs, which depmod would not see
 * here, and the guest looks each up by its name.
 */
export function moduleLists(modules: readonly FoundModule[]): [name: string, text: string][] {
  const own = new Map(modules.map(({ file }) => [file.replaceAll('-', '_'), `updates/${file}.ko`]));
  const lines = (make: (module: FoundModule) => string[]) =>
    modules
      .flatMap(make)
      .map((line) => `${line}\n`)
      .join('');
  const kernelName = (file: string) => file.replaceAll('-', '_');
  return [
    [
      'modules.dep',
      lines(({ file, info }) => {
        const needed = info.depends.map((name) => own.get(kernelName(name)) ?? `${name}.ko`);
        return [[`updates/${file}.ko:`, ...needed].join(' ')];
      }),
    ],
    [
      'modules.alias',
      lines(({ file, info }) => info.aliases.map((alias) => `alias ${alias} ${kernelName(file)}`)),
    ],
    [
      'modules.softdep',
      lines(({ file, info }) => info.softdeps.map((words) => `softdep ${kernelName(file)} ${words}`)),
    ],
  ];
}

function requireAll(what: string, required: readonly string[], found: readonly string[]): void {
  const missing = required.filter((name) => !found.includes(name));
  if (missing.length === 0) return;
  throw new DriverLayerError(`there is no ${what} ${missing.join(', ')} in what was given`, {
    hint: "Kernel modules are not in NVIDIA's .run nor in Debian's packages: they are built (dkms) for the kernel that VMs boot. Name their folder too.",
  });
}

/** The one value of all. */
function same(what: string, values: [name: string, value: string][]): string {
  const [first] = values as [[string, string]];
  const other = values.find(([, value]) => value !== first[1]);
  if (!other) return first[1];
  throw new DriverLayerError(
    `not of one ${what}: ${first[0]} has '${first[1]}', ${other[0]} has '${other[1]}'`,
  );
}
