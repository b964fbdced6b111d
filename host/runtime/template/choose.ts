/** Whether a VM starts from a template, and from which. */
import { closeSync } from 'node:fs';
import type { HostNative } from '../../../native/host-face.ts';
import { sleep } from '../../lib/deadline.ts';
import { isAbortError, toError, YavmError } from '../../lib/errors.ts';
import type { Logger } from '../../lib/logger.ts';
import type { StartChoice } from '../types.ts';
import { type BuildParts, buildTemplate } from './build.ts';
import { type ColdFacts, roomFor, type TemplateShape, templateKey, whyCold } from './shape.ts';
import { LIMIT_VARIABLE, type OpenTemplate, TemplateStore } from './store.ts';

export interface ChooseOptions {
  env: Readonly<Record<string, string | undefined>>;
  native: HostNative;
  logger: Logger;
  /** QEMU's file. */
  qemu: string;
  runBase: string;
  bootDeadline: number;
  signal?: AbortSignal;
  /** Who can boot in its place waits for nobody, and does not try again what has failed lately. */
  insists: boolean;
  /** One was built, which took this while. */
  onBuilt(): void;
}

export interface Chosen {
  store: TemplateStore;
  key: string;
  template: OpenTemplate;
}

const MIB = 1024 ** 2;
/** Milliseconds between looks whether another process has made it. */
const BUSY_POLL = 50;
/** What chooses where nobody says; `auto`, `cold` or `template`. */
export const START_VARIABLE = 'YA_VM_START';

/** @throws {YavmError} YAVM_E_USAGE */
export function startChoice(
  asked: StartChoice | undefined,
  env: Readonly<Record<string, string | undefined>>,
): StartChoice {
  if (asked !== undefined) return asked;
  const value = env[START_VARIABLE] || 'auto';
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
  const { env, logger, signal } = options;
  const store = new TemplateStore(env);
  try {
    const reason = whyCold(facts);
    if (reason !== null)
      throw new YavmError('YAVM_E_TEMPLATE', `no template is made of such a VM: ${reason}`);
    const chosen = await openOrBuild(store, shape, options);
    store.countStart(chosen.key);
    return chosen;
  } catch (error) {
    signal?.throwIfAborted();
    if (choice === 'template' || isAbortError(error)) throw error;
    logger.info({ reason: toError(error).message, err: toError(error) }, 'the VM boots');
    return null;
  }
}

/**
 * A shape's template, opened; made if there is none, and anew if that is due.
 * @throws {YavmError} YAVM_E_TEMPLATE, and what a VM's start fails with; the signal's reason
 */
export async function openOrBuild(
  store: TemplateStore,
  shape: TemplateShape,
  options: ChooseOptions,
): Promise<Chosen> {
  if (roomFor(shape.memoryMiB) > store.limit) throw tooLarge(shape, store);
  const key = templateKey(shape, options.qemu);
  store.clean(options.native);
  await renew(store, key, shape, options);
  const there = openOrDrop(store, key, shape, options.logger);
  if (there) return { store, key, template: there };
  const failure = lately(store, key, options);
  if (failure !== null)
    throw new YavmError('YAVM_E_TEMPLATE', `it could not be made a while ago: ${failure}`);
  await build(store, key, shape, options);
  const template = store.open(key);
  if (template) return { store, key, template };
  throw new YavmError('YAVM_E_TEMPLATE', `the template ${key} was removed at once`);
}

/** Makes a template anew, if that is due. The old one is used on where that fails, or while another process is at it. */
async function renew(
  store: TemplateStore,
  key: string,
  shape: TemplateShape,
  options: ChooseOptions,
): Promise<void> {
  const reason = store.due(key);
  if (reason === null || lately(store, key, options) !== null) return;
  const { logger, signal } = options;
  try {
    const outcome = await buildTemplate(key, shape, partsOf(store, options));
    if (outcome !== 'built') return;
    logger.info({ template: key, reason }, 'a template was made anew');
    options.onBuilt();
  } catch (error) {
    signal?.throwIfAborted();
    store.noteFailure(key, toError(error).message);
    logger.warn(
      { template: key, reason, err: toError(error) },
      'a template is used on: it cannot be made anew',
    );
  }
}

async function build(
  store: TemplateStore,
  key: string,
  shape: TemplateShape,
  options: ChooseOptions,
): Promise<void> {
  const { bootDeadline, signal } = options;
  const parts = partsOf(store, options);
  const end = performance.now() + bootDeadline;
  try {
    for (;;) {
      const outcome = await buildTemplate(key, shape, parts);
      if (outcome === 'built') options.onBuilt();
      if (outcome !== 'busy') return;
      if (!options.insists || performance.now() > end) throw new Busy();
      await sleep(BUSY_POLL, signal);
    }
  } catch (error) {
    signal?.throwIfAborted();
    if (!(error instanceof Busy)) store.noteFailure(key, toError(error).message);
    throw error;
  }
}

/** Why it is not tried to make it; null: it is. */
function lately(store: TemplateStore, key: string, { insists }: ChooseOptions): string | null {
  return insists ? null : store.failure(key);
}

function partsOf(
  store: TemplateStore,
  { native, logger, runBase, bootDeadline, signal }: ChooseOptions,
): BuildParts {
  return { store, native, logger, runBase, bootDeadline, signal };
}

/** No failure: the template will be there for the next. */
class Busy extends YavmError {
  constructor() {
    super('YAVM_E_TEMPLATE', 'another process is making the template');
  }
}

function tooLarge({ memoryMiB }: TemplateShape, { limit }: TemplateStore): YavmError {
  return new YavmError(
    'YAVM_E_TEMPLATE',
    limit === 0
      ? `${LIMIT_VARIABLE}=0: no templates are made`
      : `templates may take ${Math.floor(limit / MIB)} MiB in all, and one of such a VM may need ${Math.ceil(roomFor(memoryMiB) / MIB)} MiB`,
    { hint: `A larger ${LIMIT_VARIABLE}.` },
  );
}

/** A damaged one is removed: the next start would fall over it again. */
function openOrDrop(
  store: TemplateStore,
  key: string,
  shape: TemplateShape,
  logger: Logger,
): OpenTemplate | null {
  try {
    const template = store.open(key);
    if (template) checkShape(template, shape);
    return template;
  } catch (error) {
    logger.warn({ err: toError(error) }, 'a template is dropped');
    store.drop(key);
    return null;
  }
}

/** A key alone is the name of a folder: what lies there under another's name must not be used. Closes it then. @throws {YavmError} YAVM_E_TEMPLATE */
function checkShape({ record, ram, state }: OpenTemplate, shape: TemplateShape): void {
  const wrong = (['accel', 'cpuModel', 'cpus', 'memoryMiB'] as const).find(
    (name) => record[name] !== shape[name],
  );
  if (wrong === undefined) return;
  for (const fd of [ram, state]) closeSync(fd);
  throw new YavmError(
    'YAVM_E_TEMPLATE',
    `the template ${record.key} was made with another ${wrong} than its name says`,
  );
}
