/** `ya-vm provider`: makes a provider use ya-vm, undoes that, and checks that it works. */
import { existsSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import type { Command } from 'commander';
import { parseSlot } from '../gpu/slot.ts';
import { YavmError } from '../lib/errors.ts';
import { packedIndex } from '../lib/packed.ts';
import { assetsFolder } from '../lib/paths.ts';
import { checkProvider, type StepResult } from '../provider/check.ts';
import { checkCards, checkLayer, type GpuCheckHost } from '../provider/gpu-check.ts';
import { install, type Moved, uninstall } from '../provider/install.ts';
import { installPlace, type PlaceOptions, providerPlace } from '../provider/places.ts';
import type { Act } from './commands.ts';
import { type Context, print, printJson, styleOf } from './context.ts';
import { EXIT } from './exit.ts';
import { thisHost } from './gpu.ts';
import { collect, forOption } from './options.ts';
import { ownVersion } from './version.ts';

export function define(command: Command, act: Act): void {
  const part = (name: string, says: string): Command =>
    command
      .command(name)
      .description(says)
      .option(
        '--dir <folder>',
        "use this plugin folder (default: EXE_UNIT_PATH's, else ~/.local/lib/yagna/plugins)",
      )
      .option('--system', 'use /usr/lib/yagna/plugins')
      .option('--json', 'print an object');
  act(
    part('install', "write ya-vm.json where the provider looks for runtimes; it takes over the name 'vm'")
      .option('--replace', "put another runtime named 'vm' aside; uninstall brings it back")
      .option('--supervisor <file>', 'the program to start (default: this one)')
      .option(
        '--gpu <slot>',
        "also describe 'vm-nvidia', whose VMs get this graphics card; may be repeated",
        collect(forOption('--gpu', parseSlot)),
      ),
    (context, options) => installCommand(context, options),
  );
  act(part('uninstall', 'remove ya-vm.json, and bring back what was put aside'), (context, options) =>
    uninstallCommand(context, options),
  );
  act(
    part(
      'check',
      'start what is installed exactly as the provider would; exit code 1 when something is wrong',
    ),
    (context, options) => checkCommand(context, options),
  );
}

async function installCommand(context: Context, options: Record<string, unknown>): Promise<number> {
  const place = installPlace(placeOptions(options), context.env);
  const result = install({
    place,
    version: await ownVersion(),
    supervisor: programPath(options.supervisor as string | undefined, context.env),
    replace: options.replace === true,
    cards: options.gpu as string[] | undefined,
  });
  if (options.json) await printJson(context, result);
  else {
    await print(
      context,
      `installed: ${result.descriptor} → ${result.supervisor}`,
      ...result.aside.map(asideLine),
    );
    await print(
      context,
      `The provider reads it with EXE_UNIT_PATH='${join(place.folder, place.pattern)}'. Next: ya-vm provider check`,
    );
  }
  return EXIT.ok;
}

function asideLine({ from, to }: Moved): string {
  return `put aside: ${from} → ${to}`;
}

async function uninstallCommand(context: Context, options: Record<string, unknown>): Promise<number> {
  const result = uninstall(installPlace(placeOptions(options), context.env));
  if (options.json) {
    await printJson(context, result);
    return EXIT.ok;
  }
  const lines = [
    result.removed === null ? 'nothing of ya-vm is installed there' : `removed: ${result.removed}`,
    ...result.restored.map(({ to }) => `brought back: ${to}`),
    ...result.kept.map(
      ({ from, to }) => `not brought back: ${from} is there again; the old one stays as ${to}`,
    ),
  ];
  await print(context, ...lines);
  return EXIT.ok;
}

async function checkCommand(context: Context, options: Record<string, unknown>): Promise<number> {
  const steps: StepResult[] = [];
  const style = styleOf(context, context.stdout);
  const ok = await checkProvider({
    place: providerPlace(placeOptions(options), context.env),
    env: context.env,
    activity: async (descriptor, folder) => {
      const { tryActivity } = await import('./provider-activity.ts');
      return await tryActivity(context, descriptor, folder);
    },
    gpu: {
      cards: (descriptor) => checkCards(descriptor, gpuHost(context)),
      layer: (descriptor) => checkLayer(descriptor, gpuHost(context)),
    },
    async report(step) {
      steps.push(step);
      if (options.json) return;
      const mark = step.ok ? style.green('✔') : style.red('✘');
      await print(context, `${mark} ${step.name.padEnd(14)}  ${step.detail}`);
    },
  });
  if (options.json) await printJson(context, { ok, steps });
  return ok ? EXIT.ok : EXIT.unhealthy;
}

function gpuHost({ env }: Context): GpuCheckHost {
  return { facing: thisHost().facing, env };
}

function placeOptions({ dir, system }: Record<string, unknown>): PlaceOptions {
  return { folder: dir as string | undefined, system: system === true };
}

/** What the provider is to start: the single program itself; the launcher, beside the bundle's folder or among what was built. */
function programPath(given: string | undefined, env: Context['env']): string {
  const candidates = given === undefined ? ownPlaces(env) : [given];
  const found = candidates.map((path) => resolve(path)).find((path) => existsSync(path));
  if (found !== undefined) return found;
  throw new YavmError('YAVM_E_DESCRIPTOR', `${candidates.at(-1)}: the program is not there`, {
    hint: 'Build it (make build), or name it: --supervisor FILE',
  });
}

function ownPlaces(env: Context['env']): string[] {
  if (packedIndex() !== null) return [process.execPath];
  return [join(dirname(process.argv[1] ?? ''), '..', 'ya-vm'), join(assetsFolder(env), 'ya-vm')];
}
