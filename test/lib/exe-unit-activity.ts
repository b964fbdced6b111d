/** An activity as a provider has it, for VM tests: a bus, ya-vm started as its exe-unit, an image from a web server. */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { Test } from 'tap';
import type { Flex } from '../../host/gsb/types.ts';
import { silentLogger } from '../../host/lib/logger.ts';
import { ActivityHost, type RunningActivity } from '../../host/node/activity-host.ts';
import type { ActivityEvent } from '../../host/node/activity-service.ts';
import { LocalNode } from '../../host/node/node.ts';
import type { Requestor } from '../../host/node/requestor.ts';
import { DEMO_IMAGE, privateEnvironment } from './vm.ts';
import { LAUNCHER } from './ya-vm.ts';

/** Counters of the agreement, in its order. */
export const VECTOR = [
  'golem.usage.cpu_sec',
  'golem.usage.duration_sec',
  'golem.usage.gib',
  'golem.usage.storage_gib',
];
/** A web server with the demo image; its task package, and how often it was fetched. */
async function serveImage(t: Test): Promise<{ taskPackage: string; fetched(): number }> {
  const image = readFileSync(DEMO_IMAGE);
  let fetched = 0;
  const server = createServer((request, response) => {
    if (request.method === 'GET') fetched++;
    response.writeHead(200, { 'content-length': image.length });
    response.end(request.method === 'HEAD' ? undefined : image);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => void server.close());
  const hash = createHash('sha3-224').update(image).digest('hex');
  const { port } = server.address() as AddressInfo;
  return {
    taskPackage: `hash:sha3:${hash}:http://joe:pass-word@127.0.0.1:${port}/demo.gvmi`,
    fetched: () => fetched,
  };
}

export interface SetUpOptions {
  /** Of the agreement. */
  storageGib?: number;
  /** The image; default the demo's, from a server of its own. */
  taskPackage?: string;
  /** What is started as the exe-unit. */
  program?: string;
}

export async function setUp(
  t: Test,
  env: Record<string, string> = { YA_VM_ACCEL: process.env.YAVM_TEST_ACCEL ?? 'tcg' },
  { storageGib = 0.25, program = LAUNCHER, ...options }: SetUpOptions = {},
) {
  const environment = privateEnvironment(t);
  const folder = environment.XDG_RUNTIME_DIR as string;
  const node = await LocalNode.start({
    address: { kind: 'unix', path: join(folder, 'gsb.sock') },
    logger: silentLogger,
  });
  const running: RunningActivity[] = [];
  t.teardown(async () => {
    for (const activity of running) await activity.stop(0);
    await node.close();
  });
  const { taskPackage: demo, fetched } = await serveImage(t);
  const { taskPackage = demo } = options;
  const host = new ActivityHost({
    program: [program],
    service: node.service,
    gsbUrl: node.url,
    folder,
    cacheFolder: join(folder, 'cache'),
    env: { ...environment, ...env, EXE_UNIT_LOG_DIR: undefined },
  });
  const events: ActivityEvent[] = [];
  node.service.listen((event) => void events.push(event));
  return {
    environment,
    folder,
    node,
    events,
    fetched,
    async begin() {
      const activity = await host.start({
        agreement: {
          requestorId: `0x${'1'.repeat(40)}`,
          providerId: `0x${'2'.repeat(40)}`,
          usageVector: VECTOR,
          limits: { memoryGib: 0.25, storageGib, cores: 1, threads: 1 },
          taskPackage,
        },
      });
      running.push(activity);
      return { activity, requestor: node.requestor(activity.activity) };
    },
    /** Ids of the VMs that have a run folder. */
    vms: () => (existsSync(join(folder, 'ya-vm')) ? readdirSync(join(folder, 'ya-vm')) : []),
  };
}

export function sh(line: string, stream = true): Flex {
  const mode = stream ? { stream: {} } : { atEnd: {} };
  return { run: { entry_point: '/bin/sh', args: ['-c', line], capture: { stdout: mode, stderr: mode } } };
}

/** Runs a script to its end. */
export async function perform(requestor: Requestor, script: Flex[]) {
  return await requestor.finished(await requestor.exec(script));
}

export function logOf({ workFolder, activity }: RunningActivity): string {
  return readFileSync(join(workFolder, 'logs', `exe-unit_${activity}.log`), 'utf8');
}

export async function begin(t: Test, env?: Record<string, string>, options?: SetUpOptions) {
  const parts = await setUp(t, env, options);
  return { ...parts, ...(await parts.begin()) };
}
