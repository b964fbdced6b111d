/** A driver's parts from a distribution's packages: what to take is chosen here, downloaded, unpacked, and its modules are built. */
import { join } from 'node:path';
import { type RunTool, runTool } from '../../initramfs/tool.ts';
import { Apt, UPDATE_HINT } from './apt.ts';
import {
  DISTRIBUTIONS,
  type Distribution,
  dependsOf,
  isVersion,
  type ModuleKind,
  packageName,
  upstreamVersion,
  usualModules,
} from './apt-packages.ts';
import { DriverLayerError } from './errors.ts';
import { buildModules, requireBuildTools } from './module-build.ts';

export interface AptRequest {
  /** `550.163.01`, its beginning, or a package's version; default: the newest that apt offers. */
  version?: string;
  /** Default: what NVIDIA's installer takes for the version. `none`: they come from a source beside this. */
  modules?: ModuleKind | 'none';
  /** `uname -r` of the kernel that modules are built for. */
  kernelRelease: string;
  /** See {@link Apt.open}. */
  sources?: string;
  /** One line each. */
  say?(line: string): void;
}

export interface Choice {
  distribution: Distribution;
  driverVersion: string;
  /** `name=version`. */
  user: string[];
  /** Null: none are wanted. */
  modules: { kind: ModuleKind; spec: string } | null;
}

/**
 * Folders with the parts, in the empty folder `work`. Nothing is installed, needs no root.
 * @throws {DriverLayerError} apt has no such driver or headers, a compiler is missing, the modules cannot be built
 */
export async function fetchFromApt(
  request: AptRequest,
  { work, signal, run = runTool }: { work: string; signal: AbortSignal; run?: RunTool },
): Promise<string[]> {
  // Downloads and make take minutes: they end with the signal, and what is said then of a failure is not the reason.
  const ended: RunTool = (command, args, options) => run(command, args, { ...options, signal });
  try {
    return await fetchWith(ended, request, work);
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  }
}

async function fetchWith(run: RunTool, request: AptRequest, work: string): Promise<string[]> {
  const { kernelRelease, sources, say = () => {} } = request;
  const apt = await Apt.open({ sources, folder: join(work, 'apt'), run });
  const choice = await chooseDriver(apt, request);
  const headers = choice.modules ? await chooseHeaders(apt, kernelRelease) : [];
  say(`driver ${choice.driverVersion} of ${choice.distribution.name}: ${choice.user.length} packages`);
  const folders = [join(work, 'user')];
  await unpack(await apt.download(choice.user, 'user'), join(work, 'user'), run);
  if (choice.modules) {
    const tree = join(work, 'source');
    await unpack(await apt.download([choice.modules.spec, ...headers], 'source'), tree, run);
    await requireBuildTools(tree, kernelRelease);
    say(`${choice.modules.kind} kernel modules are built for ${kernelRelease}: minutes`);
    folders.push(await buildModules({ tree, release: kernelRelease, run }));
  }
  return folders;
}

/** The newest version of which all that is needed is there. @throws {DriverLayerError} */
export async function chooseDriver(
  apt: Pick<Apt, 'versions'>,
  { version: wanted, modules }: Pick<AptRequest, 'version' | 'modules'>,
): Promise<Choice> {
  const lacking: string[] = [];
  for (const distribution of DISTRIBUTIONS) {
    const { anchor } = distribution;
    // A name with the branch in it can only be looked for by the branch.
    if (anchor.includes('%') && wanted === undefined) continue;
    const anchorName = packageName(anchor, upstreamVersion(wanted ?? ''));
    const offered = (await apt.versions([anchorName])).get(anchorName) ?? [];
    for (const version of offered.filter((each) => wanted === undefined || isVersion(each, wanted))) {
      const driverVersion = upstreamVersion(version);
      const kind = modules ?? usualModules(driverVersion);
      const found = chooseVersion(await apt.versions(allNames(distribution, driverVersion)), {
        distribution,
        driverVersion,
        kind,
      });
      if ('distribution' in found) return found;
      lacking.push(`${driverVersion} without ${found.lacking}`);
    }
  }
  const which = wanted === undefined ? 'an NVIDIA driver' : `NVIDIA's driver ${wanted}`;
  const but = lacking.length === 0 ? '' : `, only ${lacking.join(', ')}`;
  throw new DriverLayerError(`apt does not have ${which}${but}`, {
    hint: `Debian has it in contrib and non-free, Ubuntu in restricted (name the branch: --from-apt 550): a file with 'deb URL SUITE contrib non-free non-free-firmware' lines is enough, --apt-sources FILE. Else: ${UPDATE_HINT}`,
  });
}

function allNames({ required, optional, modules }: Distribution, driverVersion: string): string[] {
  return [...required, ...optional, ...Object.values(modules)].map((each) =>
    packageName(each, driverVersion),
  );
}

/** From what apt has. Pure. */
function chooseVersion(
  offered: ReadonlyMap<string, string[]>,
  about: { distribution: Distribution; driverVersion: string; kind: ModuleKind | 'none' },
): Choice | { lacking: string } {
  const { distribution, driverVersion, kind } = about;
  const look = (pattern: string) => {
    const name = packageName(pattern, driverVersion);
    const versions = offered.get(name) ?? [];
    const fitting = versions.find((each) => upstreamVersion(each) === driverVersion);
    return { name, fitting: fitting && `${name}=${fitting}`, first: versions[0] && `${name}=${versions[0]}` };
  };
  const required = distribution.required.map(look);
  const modules = kind === 'none' ? null : look(distribution.modules[kind]);
  const missing = [...required, ...(modules ? [modules] : [])].find(({ fitting }) => fitting === undefined);
  if (missing) return { lacking: missing.name };
  const optional = distribution.optional.map(look).map(({ fitting, first }) => fitting ?? first);
  const user = [...required.map(({ fitting }) => fitting), ...optional].filter((each) => each !== undefined);
  const spec = modules?.fitting;
  return {
    ...{ distribution, driverVersion, user },
    modules: spec === undefined || kind === 'none' ? null : { kind, spec },
  };
}

/** The kernel's headers and what they depend on of the same kernel: its common part, and its build tools. */
async function chooseHeaders(apt: Apt, release: string): Promise<string[]> {
  const name = `linux-headers-${release}`;
  const version = (await apt.versions([name])).get(name)?.[0];
  if (version === undefined) {
    throw new DriverLayerError(`apt does not have ${name}`, {
      hint: `Headers of a kernel that was replaced go away with it: ya-vm initramfs sets gpu --update. Else: ${UPDATE_HINT}`,
    });
  }
  const depends = dependsOf(await apt.show(`${name}=${version}`));
  const parts = depends.filter((each) => /^linux-(?:headers|kbuild)-/.test(each.name));
  const offered = await apt.versions(parts.map((part) => part.name));
  const specs = parts.map((part) => {
    const exact = part.version ?? offered.get(part.name)?.[0];
    return exact === undefined ? part.name : `${part.name}=${exact}`;
  });
  return [`${name}=${version}`, ...specs];
}

async function unpack(packages: readonly string[], folder: string, run: RunTool): Promise<void> {
  for (const path of packages) await run('dpkg-deb', ['-x', path, folder]);
}
