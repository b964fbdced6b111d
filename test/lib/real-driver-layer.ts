/**
 * A driver layer of NVIDIA's real packages: the one that YAVM_TEST_DRIVER_LAYER names, or in a soak one that is made of what
 * apt has, which takes minutes of a fast machine's and 2 GB for a while.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Apt } from '../../host/driver-layer/apt.ts';
import { buildLayer } from '../../host/driver-layer/build.ts';
import { DriverLayerError } from '../../host/driver-layer/errors.ts';
import { chooseDriver } from '../../host/driver-layer/from-apt.ts';
import { inspectLayer, verifyLayer } from '../../host/driver-layer/inspect.ts';
import type { LayerManifest } from '../../host/driver-layer/manifest.ts';
import { runTool } from '../../initramfs/tool.ts';
import { soak } from './scale.ts';
import type { Owner } from './vm.ts';

export type RealLayer =
  | { file: string; manifest: LayerManifest; skip: false }
  | { file: null; manifest: null; skip: string };

/**
 * For the kernel `release`, every file as its manifest says. `skip`: why there is none, or that it is for another kernel.
 * @throws {DriverLayerError} a file that is none, packages that do not become one
 */
export async function realDriverLayer(t: Owner, release: string): Promise<RealLayer> {
  const given = process.env.YAVM_TEST_DRIVER_LAYER;
  if (given) return await check(given, release);
  if (!soak) return none('YAVM_TEST_DRIVER_LAYER names no driver layer, and only a soak makes one');
  const folder = mkdtempSync(join(tmpdir(), 'yavm-real-driver-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, 'driver.squashfs');
  const sources = process.env.YAVM_TEST_APT_SOURCES;
  const lacking = await whatAptLacks(sources, join(folder, 'apt'), release);
  if (lacking !== null) return none(lacking);
  try {
    const apt = { kernelRelease: release, sources, say: (line: string) => console.log(`# ${line}`) };
    await buildLayer({
      sources: [],
      apt,
      output: file,
      kernelRelease: release,
      signal: new AbortController().signal,
    });
  } catch (error) {
    // The kernel's compiler is for whoever runs the tests to install.
    if (error instanceof DriverLayerError && error.message.includes('cannot be built here')) {
      return none(error.message);
    }
    throw error;
  }
  return await check(file, release);
}

async function whatAptLacks(
  sources: string | undefined,
  folder: string,
  release: string,
): Promise<string | null> {
  try {
    const apt = await Apt.open({ sources, folder, run: runTool });
    await chooseDriver(apt, {});
    const headers = `linux-headers-${release}`;
    return (await apt.versions([headers])).size > 0 ? null : `apt does not have ${headers}`;
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return `${why}; YAVM_TEST_APT_SOURCES may name a sources.list that has it`;
  }
}

async function check(file: string, release: string): Promise<RealLayer> {
  const manifest = await inspectLayer(file);
  if (manifest.kernelRelease !== release)
    return none(`the layer is for ${manifest.kernelRelease}, the test's kernel is ${release}`);
  await verifyLayer(file, manifest);
  return { file, manifest, skip: false };
}

function none(skip: string): RealLayer {
  return { file: null, manifest: null, skip };
}
