/**
 * What the benches of the exe-unit measure: a node in this process, and supervisors that are started as a provider
 * starts them. The program is the built one, or a bundle of the exe-unit with a stand-in for its VM.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { buildLauncher } from '../../build/launcher.ts';
import { localImage } from '../../host/cli/local-activity.ts';
import type { Flex } from '../../host/gsb/types.ts';
import { silentLogger } from '../../host/lib/logger.ts';
import { ActivityHost, LocalNode, type Requestor, type RunningActivity } from '../../host/node/index.ts';
import { DEMO_IMAGE, type Owner, privateEnvironment } from '../lib/vm.ts';
import { OUT } from './context.ts';

type Program = readonly [string, ...string[]];

/** What a provider's descriptor names. */
export const YA_VM: Program = [join(OUT, 'ya-vm')];
const STAND_IN = resolve(import.meta.dirname, '../lib/stand-in-supervisor.ts');
const VECTOR = ['golem.usage.cpu_sec', 'golem.usage.duration_sec', 'golem.usage.gib'];

export interface Provider {
  node: LocalNode;
  /** Below which the VMs' run folders lie, `ya-vm/<id>`. */
  runFolder: string;
  /** Resolves when the activity is Initialized. */
  begin(): Promise<Started>;
}

export interface Started {
  activity: RunningActivity;
  requestor: Requestor;
  pid: number;
}

/** A node whose activities run in `program`; everything ends with `owner`. */
export async function startProvider(owner: Owner, program: Program, accel: 'tcg' | 'kvm'): Promise<Provider> {
  const environment = privateEnvironment(owner);
  const folder = environment.XDG_RUNTIME_DIR as string;
  const node = await LocalNode.start({
    address: { kind: 'unix', path: join(folder, 'gsb.sock') },
    logger: silentLogger,
  });
  owner.teardown(() => node.close());
  const host = new ActivityHost({
    program,
    extraArgs: ['--cap-handoff', '--accel', accel],
    service: node.service,
    gsbUrl: node.url,
    folder,
    cacheFolder: join(folder, 'cache'),
    env: { ...environment, YA_VM_LOCAL_IMAGES: '1', EXE_UNIT_LOG_DIR: undefined },
  });
  return {
    node,
    runFolder: join(folder, 'ya-vm'),
    async begin() {
      const activity = await host.start({ agreement: TERMS });
      owner.teardown(async () => void (await activity.stop()));
      return { activity, requestor: node.requestor(activity.activity), pid: activity.pid as number };
    },
  };
}

/** As big as the VMs of the other benches. */
const TERMS = {
  requestorId: `0x${'1'.repeat(40)}`,
  providerId: `0x${'2'.repeat(40)}`,
  usageVector: VECTOR,
  limits: { memoryGib: 0.25, storageGib: 0.25, cores: 1, threads: 1 },
  taskPackage: localImage(DEMO_IMAGE),
};

/** The exe-unit with test/lib/fake-runtime.ts, built as the product is: type stripping alone would cost 25 MB. */
export async function buildStandIn(owner: Owner): Promise<Program> {
  const out = mkdtempSync(join(OUT, 'stand-in-'));
  owner.teardown(() => rmSync(out, { recursive: true }));
  const lib = join(OUT, 'lib');
  await buildLauncher({
    out,
    entries: { main: STAND_IN },
    node: join(lib, 'node'),
    addon: join(lib, 'yavm.node'),
  });
  return [join(out, 'ya-vm')];
}

/** Runs a script to its end. @throws {Error} when one of its commands fails */
export async function perform(requestor: Requestor, script: readonly Flex[]): Promise<void> {
  const results = await requestor.finished(await requestor.exec(script));
  const failed = results.find(({ ok }) => !ok);
  if (failed) throw new Error(`command ${failed.index} failed: ${failed.message}`);
}

export const BRING_UP: readonly Flex[] = [{ deploy: {} }, { start: { args: [] } }];

/** A `run`, both of its streams captured in one way. */
export function runCommand(entryPoint: string, args: readonly string[], capture: Flex): Flex {
  return { run: { entry_point: entryPoint, args: [...args], capture: { stdout: capture, stderr: capture } } };
}

/** The largest memory that a process ever had, bytes. @throws when it is gone */
export function peakMemory(pid: number): number {
  const match = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  if (!match) throw new Error(`process ${pid} has no VmHWM`);
  return Number(match[1]) * 1024;
}
