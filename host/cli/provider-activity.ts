/** One activity from its start to its end with an installed program, for `provider check`. */
import { join } from 'node:path';
import { withDeadline } from '../lib/deadline.ts';
import { YavmError } from '../lib/errors.ts';
import { assetsFolder } from '../lib/paths.ts';
import { providerAccel } from '../provider/accelerator.ts';
import type { Descriptor } from '../provider/descriptor.ts';
import type { Context } from './context.ts';
import { localImage, startLocalActivity } from './local-activity.ts';
import { DEMO_IMAGE } from './vm-options.ts';

const WORDS = 'an activity works';
const SCRIPT = [
  { deploy: {} },
  { start: { args: [] } },
  {
    run: {
      entry_point: '/bin/echo',
      args: [WORDS],
      capture: { stdout: { atEnd: { format: 'str' } } },
    },
  },
];
const MEMORY_MIB = 256;
const STORAGE = 256 * 1024 * 1024;
/** From the script to its last result, milliseconds: an emulated boot on a busy host, and more. */
const DEADLINE = 180_000;

/** Deploys and starts the demo image, runs a command. @returns what to tell @throws what went wrong, with its code */
export async function tryActivity(
  context: Pick<Context, 'env' | 'log'>,
  { supervisor }: Descriptor,
  folder: string,
): Promise<string> {
  const began = performance.now();
  const local = await startLocalActivity(context, {
    program: [supervisor],
    taskPackage: localImage(join(assetsFolder(context.env), DEMO_IMAGE)),
    memoryMiB: MEMORY_MIB,
    cpus: 1,
    storage: STORAGE,
    accel: providerAccel(undefined, context.env),
    folder,
    signal: AbortSignal.timeout(DEADLINE),
  });
  try {
    const initialized = performance.now() - began;
    const requestor = local.node.requestor(local.activity.activity);
    const batch = await requestor.exec(SCRIPT);
    const results = await withDeadline(requestor.finished(batch), DEADLINE, 'the activity');
    const last = results.at(-1);
    if (!last?.ok || !String(last.stdout).includes(WORDS)) {
      throw new YavmError(
        'YAVM_E_PROVIDER_CHECK',
        `its script failed: ${last?.message ?? 'no output came back'}`,
      );
    }
    const whole = performance.now() - began;
    return `initialized in ${Math.round(initialized)} ms; deploy, start and a command: ${Math.round(whole)} ms in all`;
  } finally {
    await local.close();
  }
}
