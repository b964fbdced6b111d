/** What `make dist` does after the product's steps; everything lands in build/out/dist. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { assertBudgets, LIMITS } from '../budgets.ts';
import { bundleScripts } from '../scripts/bundle.ts';
import { assetOf, codeAssetOf, programLoader } from '../scripts/loader.ts';
import { compileScripts } from '../scripts/start.ts';
import type { Step } from '../step.ts';
import { buildArchive, buildDebianPackage, checksums, packageName } from './archives.ts';
import { buildBinary } from './binary.ts';
import { licencesText } from './licences.ts';
import { components, kernelOf, licenseParts, payloadFiles } from './parts.ts';
import { writePayload } from './payload.ts';
import { sbomText } from './sbom.ts';
import { serialportAddon } from './serialport-addon.ts';
import { shellFiles } from './shell-files.ts';

export interface DistPlaces {
  /** Where the product was built. */
  out: string;
  /** Where the packages go. */
  dist: string;
  /** What of the host is started by itself, as in build/steps.ts. */
  entries: Record<string, string>;
}

/** Host code that only works in a checkout, with the build's own packages. */
const EXTERNAL = ['esbuild'];

/** Makes the program, its licences and its bill of materials in `dist`. @throws when it is larger than it may be. */
export async function buildProgram({ out, dist, entries }: DistPlaces): Promise<void> {
  const work = join(dist, 'work');
  rmSync(work, { recursive: true, force: true });
  mkdirSync(work, { recursive: true });
  const { version } = own();
  const [host, code] = [join(work, 'host'), join(work, 'code')];
  const scripts = await bundleScripts(entries, host, { external: EXTERNAL, plugins: [serialportAddon] });
  await compileScripts(host, code, work);
  const kernel = kernelOf(join(out, 'manifest.json'));
  const [licences, main, worker] = ['licences.txt', 'main.cjs', 'network-worker.cjs'].map((name) =>
    join(name === 'licences.txt' ? dist : work, name),
  ) as [string, string, string];
  writeFileSync(licences, licencesText(await licenseParts(scripts.sources, process.execPath, kernel)));
  writeFileSync(main, programLoader('main'));
  writeFileSync(worker, programLoader('network-worker'));
  const payload = writePayload(join(work, 'payload'), version, payloadFiles(out, licences));
  const assets: Record<string, string> = { ...payload, 'network-worker.cjs': worker };
  for (const name of scripts.names) {
    assets[assetOf(name)] = join(host, name);
    assets[codeAssetOf(name)] = join(code, name);
  }
  const program = join(dist, 'ya-vm');
  await buildBinary({ node: process.execPath, script: main, assets, work, output: program });
  const sbom = sbomText(own(), await components(scripts.sources, kernel), sourceDate());
  writeFileSync(join(dist, 'sbom.cdx.json'), sbom);
  rmSync(work, { recursive: true });
  const measured = statSync(program).size;
  assertBudgets([{ what: 'the single program', limit: LIMITS.program, measured }]);
}

/** Makes the packages of what {@link buildProgram} made. @throws when the archive is larger than it may be. */
export async function buildPackages(dist: string): Promise<void> {
  const { version } = own();
  const work = join(dist, 'work');
  const [program, licences, sbom] = ['ya-vm', 'licences.txt', 'sbom.cdx.json'].map((name) =>
    join(dist, name),
  ) as [string, string, string];
  const shell = await shellFiles(version);
  const contents = { version, program, licences, sbom, shell, epoch: sourceDate(), work };
  const [archive, debian] = packageFiles(dist) as [string, string];
  await buildArchive(contents, archive);
  await buildDebianPackage(contents, debian);
  rmSync(work, { recursive: true });
  writeFileSync(join(dist, 'SHA256SUMS'), checksums([program, archive, debian, sbom, licences]));
  const measured = statSync(archive).size;
  assertBudgets([{ what: 'the archive, tar.zst', limit: LIMITS.archive, measured }]);
}

function packageFiles(dist: string): string[] {
  return ['tar.zst', 'deb'].map((ending) => join(dist, `${packageName(own().version)}.${ending}`));
}

/** The steps, after those of the product. `inputs`: what the launcher's bundle is made from. */
export function distSteps(places: DistPlaces, inputs: readonly string[]): Step[] {
  const { out, dist } = places;
  const built = ['vmlinux', 'initramfs.cpio.zst', 'manifest.json', 'demo.gvmi', 'yavm.node', 'bytecode'];
  const made = ['ya-vm', 'licences.txt', 'sbom.cdx.json'].map((name) => join(dist, name));
  return [
    {
      name: 'dist-program',
      says: 'the single program',
      inputs: [...inputs, 'build/dist', 'build/scripts', 'LICENSE', ...built.map((name) => join(out, name))],
      outputs: made,
      after: ['initramfs', 'bytecode', 'demo', 'addon'],
      run: () => buildProgram(places),
    },
    {
      name: 'dist-packages',
      says: 'archive and Debian package',
      inputs: [...inputs, 'build/dist', 'docs/install.md', ...made],
      outputs: [...packageFiles(dist), join(dist, 'SHA256SUMS')],
      after: ['dist-program'],
      run: () => buildPackages(dist),
    },
  ];
}

function own(): { name: string; version: string } {
  const { name, version } = JSON.parse(readFileSync('package.json', 'utf8'));
  return { name, version };
}

/** Seconds since 1970 that stand for "now": `$SOURCE_DATE_EPOCH`, else the last commit; 1980 without either. */
export function sourceDate(env: Readonly<Record<string, string | undefined>> = process.env): number {
  const given = env.SOURCE_DATE_EPOCH;
  if (given !== undefined) {
    if (!/^\d{1,10}$/.test(given)) throw new Error(`SOURCE_DATE_EPOCH: '${given}' is no number of seconds`);
    return Number(given);
  }
  try {
    return Number(
      execFileSync('git', ['log', '-1', '--format=%ct'], { stdio: ['ignore', 'pipe', 'ignore'] }),
    );
  } catch {
    return Date.UTC(1980, 0, 1) / 1000;
  }
}
