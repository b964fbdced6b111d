/** Templates that are made before anybody needs one. */
import { closeSync } from 'node:fs';
import type { HostNative } from '../../../native/host-face.ts';
import type { Logger } from '../../lib/logger.ts';
import { cacheFolder, runBase } from '../../lib/paths.ts';
import { findProgram } from '../../lib/programs.ts';
import { chooseAccelerator } from '../accelerator.ts';
import { bootKey, StartCache } from '../start-cache.ts';
import type { AccelChoice, BootAssets } from '../types.ts';
import { bootDeadline } from '../vm-plan.ts';
import { openOrBuild } from './choose.ts';
import { shapeOf } from './shape.ts';
import { TemplateStore } from './store.ts';

/** The VMs that it is for. */
export interface TemplateRequest {
  assets: BootAssets;
  cpus: number;
  memoryMiB: number;
  accel: AccelChoice;
}

export interface AheadOptions {
  env: Readonly<Record<string, string | undefined>>;
  native: HostNative;
  logger: Logger;
  signal?: AbortSignal;
  /** Default: yes; see ChooseOptions. */
  insists?: boolean;
}

export interface MadeTemplate {
  key: string;
  /** False: it was there. */
  built: boolean;
  milliseconds: number;
}

/**
 * Makes the template for VMs of this shape, unless it is there.
 * @throws {YavmError} YAVM_E_TEMPLATE, and what a VM's start fails with
 */
export async function makeTemplate(request: TemplateRequest, options: AheadOptions): Promise<MadeTemplate> {
  const { env, native, logger, signal, insists = true } = options;
  const { assets, cpus } = request;
  const began = performance.now();
  const qemu = findProgram('qemu-system-x86_64', env);
  const cache = new StartCache(cacheFolder(env));
  const accelerator = await chooseAccelerator(request.accel, {
    assets,
    native,
    cache,
    cacheFolder: cacheFolder(env),
    logger,
    signal,
  });
  const { accel } = accelerator;
  let built = false;
  const { key, template } = await openOrBuild(new TemplateStore(env), shapeOf(accelerator, request), {
    env,
    native,
    logger,
    qemu,
    runBase: runBase(env),
    bootDeadline: bootDeadline(accel, cache.bootTime(bootKey(accel, qemu, assets, cpus))),
    signal,
    insists,
    onBuilt: () => {
      built = true;
    },
  });
  closeSync(template.ram);
  closeSync(template.state);
  return { key, built, milliseconds: Math.round(performance.now() - began) };
}
