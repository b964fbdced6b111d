/** What `make build` does, as a table. Paths are from the repository's top; everything made lands in build/out. */
import { join } from 'node:path';
import { buildInitramfs } from '../initramfs/build.ts';
import type { Manifest } from '../initramfs/manifest.ts';
import { ADDON, addonStep } from './addon.ts';
import { assertBudgets, fileBudgets } from './budgets.ts';
import { buildDemoImage } from './demo-image.ts';
import { distSteps } from './dist/steps.ts';
import { buildBytecodeCompiler, buildEngineTest, packageVersion } from './engine.ts';
import { buildFloor } from './floor.ts';
import { buildGuest } from './guest.ts';
import { fetchKernel } from './kernel.ts';
import { buildLauncher } from './launcher.ts';
import type { Step } from './step.ts';

export const OUT = 'build/out';

/** What of the host is started by itself: the CLI, and the thread of a network (host/network/thread.ts finds it by name). */
const HOST = { main: 'host/cli/main.ts', 'network-worker': 'host/network/worker.ts' };

/** Progress of the parts: one line each. */
export type Say = (line: string) => void;

/** What decides the versions of everything that comes from npm. */
const LOCK = ['package.json', 'package-lock.json'];
const ENGINE = [
  ...['native/engine', 'native/addon', 'build/engine.ts', 'build/quickjs.ts'],
  ...['build/compile.ts', 'build/toolchain.ts', 'build/tool.ts', ...LOCK],
];
const GUEST = [...ENGINE, 'guest', 'native/face.ts', 'native/native.ts', 'build/guest.ts'];
const HOST_SOURCES = [
  ...['host', 'guest/protocol', 'initramfs', 'native/face.ts', 'native/native.ts', 'native/load.ts'],
  ...LOCK,
];
const INITRAMFS = ['initramfs', 'build/kernel.ts', 'build/busybox.ts', 'build/steps.ts', 'build/budgets.ts'];

/** The product: what `make run` needs. */
export function productSteps(say: Say): Step[] {
  return [
    addonStep,
    {
      name: 'init',
      says: 'guest agent: QuickJS, addon and bundle as one static /init',
      inputs: GUEST,
      outputs: [`${OUT}/init`],
      after: [],
      run: async () => void (await buildGuest({ out: join(OUT, 'init'), test: false })),
    },
    {
      name: 'bytecode',
      says: "compiler of hooks: QuickJS's parser as one static file",
      inputs: ENGINE,
      outputs: [`${OUT}/bytecode`],
      // They share object files.
      after: ['init'],
      run: async () => void (await buildBytecodeCompiler()),
    },
    {
      name: 'initramfs',
      says: 'kernel and initramfs',
      inputs: [...INITRAMFS, `${OUT}/init`],
      outputs: [`${OUT}/vmlinux`, `${OUT}/initramfs.cpio.zst`, `${OUT}/manifest.json`],
      after: ['init'],
      run: async () => {
        const manifest = await packInitramfs(`${OUT}/init`, { vmlinux: true, name: 'initramfs' }, say);
        assertBudgets(fileBudgets(manifest.sizes));
      },
    },
    {
      name: 'demo',
      says: 'demo image',
      inputs: ['build/demo-image.ts', 'build/busybox.ts', 'host/image', 'initramfs/kernel'],
      outputs: [`${OUT}/demo.gvmi`],
      after: [],
      run: async () => void (await buildDemoImage({ output: join(OUT, 'demo.gvmi'), onProgress: say })),
    },
    {
      name: 'launcher',
      says: 'launcher and the bundle of the host',
      inputs: [...HOST_SOURCES, ADDON, 'build/launcher.ts', 'build/scripts'],
      outputs: [
        `${OUT}/ya-vm`,
        `${OUT}/lib/main.cjs`,
        `${OUT}/lib/network-worker.cjs`,
        `${OUT}/lib/node`,
        `${OUT}/lib/yavm.node`,
      ],
      after: ['addon'],
      run: () => buildLauncher({ out: OUT, entries: HOST, node: process.execPath, addon: ADDON }),
    },
  ];
}

/** What tests and the bench need besides. They follow `init`, whose object files they share. */
export function testSteps(say: Say): Step[] {
  return [
    {
      name: 'engine-test',
      says: "the engine as the addon tests' host",
      inputs: ENGINE,
      outputs: [`${OUT}/engine-test`],
      after: ['bytecode'],
      run: async () => void (await buildEngineTest()),
    },
    {
      name: 'init-test',
      says: 'guest agent with the requests that only tests make',
      inputs: GUEST,
      outputs: [`${OUT}/init-test`],
      after: ['engine-test'],
      run: async () => void (await buildGuest({ out: join(OUT, 'init-test'), test: true })),
    },
    {
      name: 'initramfs-test',
      says: 'its initramfs',
      inputs: [...INITRAMFS, `${OUT}/init-test`],
      outputs: [`${OUT}/initramfs-test.cpio.zst`],
      after: ['initramfs', 'init-test'],
      run: async () => void (await packInitramfs(`${OUT}/init-test`, { name: 'initramfs-test' }, say)),
    },
    {
      name: 'floor',
      says: 'the floor that a boot is compared with',
      inputs: [...INITRAMFS, 'build/floor.ts'],
      outputs: [`${OUT}/floor.cpio.zst`],
      after: ['initramfs'],
      run: async () => void (await buildFloor(await fetchKernel(say), join(OUT, 'floor.cpio.zst'))),
    },
  ];
}

/** What people install (`make dist`), from the product. */
export function packageSteps(): Step[] {
  return distSteps({ out: OUT, dist: join(OUT, 'dist'), entries: HOST }, HOST_SOURCES);
}

/** Packs `init` with the kernel's modules; `vmlinux` and the manifest are written for the product only. */
async function packInitramfs(
  init: string,
  what: { vmlinux?: boolean; name: string },
  say: Say,
): Promise<Manifest> {
  const version = packageVersion();
  return buildInitramfs({
    kernel: await fetchKernel(say),
    init,
    outputs: {
      initramfs: join(OUT, `${what.name}.cpio.zst`),
      ...(what.vmlinux ? { vmlinux: join(OUT, 'vmlinux'), manifest: join(OUT, 'manifest.json') } : {}),
    },
    version,
    agent: version,
  });
}
