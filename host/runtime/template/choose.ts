/** Whether a VM starts from a template, and from which. */
import type { Native } from '../../../native/face.ts';
import { isAbortError, toError, YavmError } from '../../lib/errors.ts';
import type { Logger } from '../../lib/logger.ts';
import type { StartChoice } from '../types.ts';
import { type BuildParts, buildTemplate } from './build.ts';
import { type ColdFacts, type TemplateShape, templateKey, whyCold } from './shape.ts';
import { type OpenTemplate, TemplateStore } from './store.ts';

export interface ChooseOptions {
  env: Readonly<Record<string, string | undefined>>;
  native: Native;
  logger: Logger;
  /** QEMU's file. */
  qemu: string;
  runBase: string;
  bootDeadline: number;
  signal?: AbortSignal;
  /** One was built, which took this while. */
  onBuilt(): void;
}

export interface Chosen {
  store: TemplateStore;
  key: string;
  template: OpenTemplate;
}

/** What chooses where nobody says; `auto`, `cold` or `template`. */
export const START_VARIABLE = 'YA_VM_START';

/** @throws {YavmError} YAVM_E_USAGE */
export function startChoice(
  asked: StartChoice | undefined,
  env: Readonly<Record<string, string | undefined>>,
): StartChoice {
  if (asked !== undefined) return asked;
  const value = env[START_VARIABLE] || 'cold';
  if (value === 'auto' || value === 'cold' || value === 'template') return value;
  throw new YavmError('YAVM_E_USAGE', `${START_VARIABLE}=${value}: not auto, cold or template`);
}

/**
 * The template for a VM, opened; made if there is none. Null: it boots, for a reason that is logged.
 * @throws {YavmError} YAVM_E_TEMPLATE: it was to be a template and cannot; YAVM_E_USAGE; the signal's reason
 */
export async function chooseTemplate(
  choice: StartChoice,
  shape: TemplateShape,
  facts: ColdFacts,
  options: ChooseOptions,
): Promise<Chosen | null> {
  if (choice === 'cold') return null;
  const { logger, signal } = options;
  try {
    const store = new TemplateStore(options.env);
    const reason =
      whyCold(facts) ?? (shape.memoryMiB * 2 ** 20 > store.limit ? tooLarge(shape, store) : null);
    if (reason !== null)
      throw new YavmError('YAVM_E_TEMPLATE', `the VM cannot start from a template: ${reason}`);
    const key = templateKey(shape, options.qemu);
    const template = openOrDrop(store, key, logger) ?? (await build(store, key, shape, options));
    return template && { store, key, template };
  } catch (error) {
    signal?.throwIfAborted();
    if (choice === 'template' || isAbortError(error)) throw error;
    logger.info({ reason: toError(error).message, err: toError(error) }, 'the VM boots');
    return null;
  }
}

function tooLarge({ memoryMiB }: TemplateShape, { limit }: TemplateStore): string {
  return `templates may have ${Math.floor(limit / 2 ** 20)} MiB in all, and its memory is ${memoryMiB} MiB`;
}

/** A damaged one is removed: the next start would fall over it again. */
function openOrDrop(store: TemplateStore, key: string, logger: Logger): OpenTemplate | null {
  try {
    return store.open(key);
  } catch (error) {
    logger.warn({ err: toError(error) }, 'a template is dropped');
    store.drop(key);
    return null;
  }
}

async function build(
  store: TemplateStore,
  key: string,
  shape: TemplateShape,
  options: ChooseOptions,
): Promise<OpenTemplate | null> {
  const { native, logger, runBase, bootDeadline, signal } = options;
  const parts: BuildParts = { store, native, logger, runBase, bootDeadline, signal };
  if (!(await buildTemplate(key, shape, parts))) {
    throw new YavmError('YAVM_E_TEMPLATE', 'another process is making the template');
  }
  options.onBuilt();
  return store.open(key);
}
