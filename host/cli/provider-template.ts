/** The template of a provider's activities, made before the first of them waits for it: by `test` and `offer-template`. */
import { loadNative } from '../../native/load.ts';
import type { ProviderGpu } from '../gpu/options.ts';
import { formatDuration } from '../lib/duration.ts';
import { toError } from '../lib/errors.ts';
import { formatSize } from '../lib/size.ts';
import { providerShape } from '../provider/shape.ts';
import type { AccelChoice } from '../runtime/types.ts';
import type { Context } from './context.ts';
import { providerAssets } from './runtime-options.ts';

export interface ProviderTemplateOptions {
  say(line: string): void;
  /** Waits for who makes it now, and tries again what has failed lately. */
  insists: boolean;
  signal?: AbortSignal;
  gpu?: ProviderGpu;
  /** Where the provider has started us. */
  work?: string;
  /** Replaced by tests. */
  make?: typeof import('../runtime/template/ahead.ts')['makeTemplate'];
}

/** Where VMs are to start from templates, and are such that they can. @throws {YavmError} YAVM_E_USAGE: a variable is wrong */
export async function usesTemplates(env: Context['env'], gpu: ProviderGpu = {}): Promise<boolean> {
  const { startChoice } = await import('../runtime/template/choose.ts');
  const { TemplateStore } = await import('../runtime/template/store.ts');
  const hugepages = (env.YA_VM_HUGEPAGES || 'off') !== 'off';
  return (
    startChoice(undefined, env) !== 'cold' &&
    gpu.gpu === undefined &&
    !hugepages &&
    new TemplateStore(env).limit > 0
  );
}

/**
 * Makes it, unless it is there, or nobody knows what the activities will be like. Without it they boot: whatever keeps it from
 * being made is told, and no failure. @throws the signal's reason
 */
export async function makeProviderTemplate(
  { env, log }: Pick<Context, 'env' | 'log'>,
  accel: AccelChoice,
  { say, insists, signal, gpu, work = process.cwd(), make }: ProviderTemplateOptions,
): Promise<void> {
  const shape = providerShape(work);
  if (shape === null) return;
  try {
    if (!(await usesTemplates(env, gpu))) return;
    const makeTemplate = make ?? (await import('../runtime/template/ahead.ts')).makeTemplate;
    const request = { ...shape, accel, assets: providerAssets(env) };
    const made = await makeTemplate(request, { env, native: loadNative(), logger: log, insists, signal });
    const { memoryMiB, cpus } = shape;
    const size = `${formatSize(memoryMiB * 1024 ** 2)} and ${cpus} CPU${cpus === 1 ? '' : 's'}`;
    const how = made.built ? `made in ${formatDuration(made.milliseconds)}` : 'there';
    say(`ok: the template of activities, with ${size}: ${how}`);
  } catch (error) {
    signal?.throwIfAborted();
    log.warn({ err: toError(error) }, 'no template was made for activities: their VMs boot');
    say(`  no template for activities: ${toError(error).message}`);
  }
}
