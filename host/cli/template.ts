/** `ya-vm template`: the snapshots from which VMs start: list, build, drop, verify. */
import type { Command } from 'commander';
import { loadNative } from '../../native/load.ts';
import { formatDuration } from '../lib/duration.ts';
import { formatSize } from '../lib/size.ts';
import { type MadeTemplate, makeTemplate } from '../runtime/template/ahead.ts';
import { type ListedTemplate, TemplateStore } from '../runtime/template/store.ts';
import type { AccelChoice } from '../runtime/types.ts';
import type { Act } from './commands.ts';
import { type Context, note, print, printJson, styleOf } from './context.ts';
import { EXIT } from './exit.ts';
import { Interrupted, Interrupts } from './interrupts.ts';
import { forOption, parseChoice, parseCpus, usageError } from './options.ts';
import { alignColumns } from './style.ts';
import { ACCELERATORS, memoryOption, readAssets } from './vm-options.ts';

const HELP = `
The first VM of a shape (memory, CPUs, kernel, QEMU) makes its template, and all of that shape go on from it instead of booting;
nothing has to be done. YA_VM_TEMPLATES names their folder, YA_VM_TEMPLATES_LIMIT how much they may take. See docs/templates.md.

Examples:
  ya-vm template list
  ya-vm template build -m 4G --cpus 2      before somebody waits for it
  ya-vm template drop --all                the next start makes it anew`;

export function define(command: Command, act: Act): void {
  command.addHelpText('after', HELP);
  const list = command.command('list').description('templates of this user, the last used first');
  list.option('--json', 'print an array').addHelpText('after', '\nExample:\n  ya-vm template list');
  act(list, (context, options) => templateList(context, options, new TemplateStore(context.env)));
  const build = command
    .command('build')
    .description('make the template of a shape, unless it is there')
    .addOption(memoryOption())
    .option('--cpus <n>', 'virtual CPUs', forOption('--cpus', parseCpus), 1)
    .option(
      '--accel <auto|kvm|tcg>',
      'acceleration',
      forOption('--accel', (text) => parseChoice(text, ACCELERATORS, 'accelerator')),
      'auto',
    )
    .option('--kernel-set <name>', 'of this kernel set (default: YA_VM_KERNEL_SET, else cloud)')
    .option('--json', 'print what was made')
    .addHelpText('after', '\nExample:\n  ya-vm template build -m 4G --cpus 2');
  act(build, templateBuild);
  const drop = command
    .command('drop')
    .description('remove templates; running VMs do not notice')
    .argument('[key...]', 'or its first letters')
    .option('--all', 'all of them')
    .addHelpText('after', '\nExample:\n  ya-vm template drop --all');
  act(drop, (context, options, [keys]) =>
    templateDrop(context, options, keys as string[], new TemplateStore(context.env)),
  );
  const verify = command
    .command('verify')
    .description('read templates whole and compare; exit code 1 when one is damaged')
    .argument('[key...]', 'or its first letters (default: all)')
    .option('--json', 'print an array')
    .addHelpText('after', '\nExample:\n  ya-vm template verify');
  act(verify, (context, options, [keys]) =>
    templateVerify(context, options, keys as string[], new TemplateStore(context.env)),
  );
}

const HEADINGS = ['KEY', 'MEMORY', 'CPUS', 'ACCEL', 'KERNEL', 'SIZE', 'MADE', 'STARTS', 'USED'];
/** Digits of a key that are shown: enough to tell one host's apart. */
const SHORT = 8;

export async function templateList(
  context: Context,
  { json }: { json?: boolean },
  store: TemplateStore,
): Promise<number> {
  const templates = store.list();
  if (json) await printJson(context, templates.map(asJson));
  else if (templates.length === 0) await print(context, `no templates in ${store.folder}`);
  else {
    const now = Date.now();
    const [head, ...rows] = alignColumns([HEADINGS, ...templates.map((each) => cells(each, now))]);
    await print(context, styleOf(context, context.stdout).bold(head as string), ...rows);
  }
  return EXIT.ok;
}

function asJson({ record, size, used, starts, due }: ListedTemplate) {
  const { key, made, accel, cpuModel, cpus, memoryMiB, kernel } = record;
  const times = { made, used: used.toISOString(), starts, due };
  return { key, ...times, accel, cpuModel, cpus, memoryMiB, kernel, size };
}

function cells({ record, size, used, starts, due }: ListedTemplate, now: number): string[] {
  const ago = (time: number) => `${formatDuration(Math.max(0, now - time))} ago`;
  return [
    record.key.slice(0, SHORT),
    formatSize(record.memoryMiB * 1024 ** 2),
    String(record.cpus),
    record.accel,
    record.kernel,
    formatSize(size),
    `${ago(Date.parse(record.made))}${due === null ? '' : ', due'}`,
    String(starts),
    ago(used.getTime()),
  ];
}

async function templateBuild(context: Context, options: Record<string, unknown>): Promise<number> {
  const { env, log } = context;
  const { memory, cpus, accel, kernelSet, json } = options as {
    memory: number;
    cpus: number;
    accel: AccelChoice;
    kernelSet?: string;
    json?: boolean;
  };
  const request = {
    assets: readAssets(undefined, undefined, env, kernelSet),
    cpus,
    memoryMiB: memory,
    accel,
  };
  const interrupts = new Interrupts();
  let made: MadeTemplate;
  try {
    const { signal } = interrupts;
    made = await makeTemplate(request, { env, native: loadNative(), logger: log, signal });
  } catch (error) {
    const { reason } = interrupts.signal;
    if (!(reason instanceof Interrupted)) throw error;
    await note(context, `${reason.message}; nothing is left of the template`);
    return reason.exitCode;
  } finally {
    interrupts.close();
  }
  if (json) await printJson(context, made);
  else {
    const how = made.built ? `made in ${formatDuration(made.milliseconds)}` : 'it is there';
    await print(context, `${made.key.slice(0, SHORT)}  ${how}`);
  }
  return EXIT.ok;
}

export async function templateDrop(
  context: Context,
  { all }: { all?: boolean },
  words: readonly string[],
  store: TemplateStore,
): Promise<number> {
  if ((all === true) === words.length > 0)
    throw usageError("name templates, or give '--all'", 'ya-vm template list');
  const keys = all ? store.keys() : keysOf(store, words);
  if (keys.length === 0) await print(context, `no templates in ${store.folder}`);
  for (const key of keys) {
    store.drop(key);
    await print(context, key.slice(0, SHORT));
  }
  return EXIT.ok;
}

export async function templateVerify(
  context: Context,
  { json }: { json?: boolean },
  words: readonly string[],
  store: TemplateStore,
): Promise<number> {
  const results: { key: string; problem: string | null }[] = [];
  for (const key of words.length > 0 ? keysOf(store, words) : store.keys()) {
    results.push({ key, problem: await store.verify(key) });
  }
  if (json) await printJson(context, results);
  else if (results.length === 0) await print(context, `no templates in ${store.folder}`);
  else {
    const style = styleOf(context, context.stdout);
    const lines = results.map(({ key, problem }) =>
      problem === null
        ? `${style.green('✔')} ${key.slice(0, SHORT)}  is as it was made`
        : `${style.red('✘')} ${key.slice(0, SHORT)}  ${problem}; ya-vm template drop ${key.slice(0, SHORT)}`,
    );
    await print(context, ...lines);
  }
  return results.some(({ problem }) => problem !== null) ? EXIT.unhealthy : EXIT.ok;
}

/** @throws {YavmError} YAVM_E_USAGE: none, or several, begin like this */
function keysOf(store: TemplateStore, words: readonly string[]): string[] {
  const keys = store.keys();
  return words.map((word) => {
    const found = keys.filter((key) => key.startsWith(word));
    if (found.length === 1) return found[0] as string;
    if (found.length === 0)
      throw usageError(`no template's key begins with '${word}'`, 'See: ya-vm template list');
    throw usageError(`'${word}' begins the keys of ${found.length} templates`, 'Give more letters of one.');
  });
}
