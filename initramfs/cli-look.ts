/** `ya-vm initramfs inspect|diff|explain`: what is in one, what differs, and why a module is there. */
import type { Command } from 'commander';
import { YavmError } from '../host/lib/errors.ts';
import { printable } from '../host/lib/logger.ts';
import { formatSize } from '../host/lib/size.ts';
import { bootCostLine, compareBoots } from './boot-cost.ts';
import { type Act, json, type Streams, write } from './cli-parts.ts';
import { diffInitramfs, type InitramfsDiff } from './diff.ts';
import { type Explanation, explain } from './explain.ts';
import { type Inspection, inspect } from './inspect.ts';
import type { ManifestEntry } from './manifest.ts';

const INSPECT_EXAMPLES = `
Examples:
  ya-vm initramfs inspect                        what VMs boot now
  ya-vm initramfs inspect ./debug                one of yours, by its folder or file
  ya-vm initramfs inspect --json | jq .modules`;

const DIFF_EXAMPLES = `
Exit code 0: the same bytes, 1: not.

Examples:
  ya-vm initramfs diff ./old ./new               by folder or by file
  ya-vm initramfs diff ./old ./new --json | jq .bytes
  ya-vm initramfs diff ./old ./new --boot 10     also in milliseconds`;

const EXPLAIN_EXAMPLES = `
Exit code 0: it is there or built in, 1: not.

Examples:
  ya-vm initramfs explain virtio_gpu
  ya-vm initramfs explain drm ./gpu`;

/** How the program around these commands boots one. */
export type BootOnceOf = (streams: Streams, path: string, accel: string) => Promise<number>;

/** Boots of each with `--boot`. */
const BOOTS = 5;
const MOST_BOOTS = 100;

/** Adds the subcommands. `folder` is what is looked at when nothing is named. */
export function registerLooking(command: Command, act: Act, folder: string, boot?: BootOnceOf): void {
  const look = command
    .command('inspect')
    .argument('[path]', 'initramfs, or its folder', folder)
    .description('list what is in an initramfs')
    .option('--json', 'print an object')
    .addHelpText('after', INSPECT_EXAMPLES);
  act(look, async ({ stdout }, options, [path]) => {
    const found = await inspect(path as string);
    await write(stdout, options.json ? json(found) : inspectionLines(found).join('\n'));
    return 0;
  });

  const compare = command
    .command('diff')
    .argument('<before>', 'initramfs, or its folder')
    .argument('<after>', 'another one')
    .description('what changed from one initramfs to another, and what it costs')
    .option('--json', 'print an object')
    .addHelpText('after', DIFF_EXAMPLES);
  if (boot)
    compare
      .option('--boot [times]', `also boot both, in turn, so many times each (default: ${BOOTS})`)
      .option('--accel <auto|kvm|tcg>', 'of these boots', 'auto');
  act(compare, async (streams, options, operands) => {
    const [before, after] = operands as [string, string];
    const times = options.boot === undefined ? 0 : parseTimes(options.boot);
    const found = diffInitramfs(await inspect(before), await inspect(after));
    const cost =
      boot && times > 0
        ? await compareBoots([before, after], times, (path) => boot(streams, path, String(options.accel)))
        : null;
    const lines = [...diffLines(found), ...(cost ? [bootCostLine(cost)] : [])];
    await write(
      streams.stdout,
      options.json ? json(cost ? { ...found, boot: cost } : found) : lines.join('\n'),
    );
    return found.same ? 0 : 1;
  });

  const why = command
    .command('explain')
    .argument('<module>', 'name of a kernel module')
    .argument('[path]', 'initramfs, or its folder', folder)
    .description('why a module is in an initramfs, or why not')
    .option('--json', 'print an object')
    .addHelpText('after', EXPLAIN_EXAMPLES);
  act(why, async ({ stdout }, options, [name, path]) => {
    const found = explain(await inspect(path as string), name as string);
    await write(stdout, options.json ? json(found) : explanationLines(found).join('\n'));
    return found.state === 'carried' || found.state === 'built in' ? 0 : 1;
  });
}

function parseTimes(given: unknown): number {
  if (given === true) return BOOTS;
  const times = Number(given);
  if (Number.isInteger(times) && times >= 1 && times <= MOST_BOOTS) return times;
  throw new YavmError('YAVM_E_USAGE', `--boot ${String(given)}: not a number from 1 to ${MOST_BOOTS}`);
}

/** What an initramfs holds, for people. Names in it are made harmless for a terminal. */
export function inspectionLines(found: Inspection): string[] {
  const { manifest, manifestProblem } = found;
  const packed = found.compression
    ? `${found.compression}, ${formatSize(found.unpacked)} unpacked`
    : 'not compressed';
  const from = manifest?.kernel.package
    ? ` (${manifest.kernel.package.name} ${manifest.kernel.package.version})`
    : '';
  return [
    `${found.path}: ${formatSize(found.size)} (${packed}), sha256 ${found.sha256}`,
    `kernel ${found.release ?? 'of any release: no modules'}${from}`,
    ...(manifest ? [`agent ${manifest.agent ?? 'foreign'}, built by ya-vm ${manifest.builder}`] : []),
    ...(manifestProblem ? [`manifest.json beside it is not used: ${manifestProblem}`] : []),
    '',
    ...found.entries.map(entryLine),
    ...moduleLines(found),
  ].map(printable);
}

function entryLine(entry: ManifestEntry): string {
  const kind = { directory: 'd', file: '-', symlink: 'l', character: 'c', block: 'b' }[entry.type];
  const size = entry.size ?? entry.device ?? '';
  const target = entry.target === undefined ? '' : ` -> ${entry.target}`;
  return `${kind} ${entry.mode ?? '    '} ${String(size).padStart(9)} ${entry.path}${target}`;
}

/** Modules with their sizes, the largest first: what makes an initramfs large. */
function moduleLines({ modules, manifest }: Inspection): string[] {
  if (modules.length === 0) return [];
  const reasons = new Map(manifest?.modules.map(({ name, reason }) => [name, reason]));
  const total = modules.reduce((sum, { size }) => sum + size, 0);
  const sorted = modules.toSorted((a, b) => b.size - a.size || (a.name < b.name ? -1 : 1));
  const width = Math.max(...modules.map(({ name }) => name.length));
  return [
    '',
    `${modules.length} modules, ${formatSize(total)} unpacked`,
    ...sorted.map(({ name, size }) =>
      `${String(size).padStart(9)} ${name.padEnd(width)} ${reasons.get(name) ?? ''}`.trimEnd(),
    ),
  ];
}

/** What differs, for people. Names are made harmless for a terminal. */
export function diffLines(found: InitramfsDiff): string[] {
  if (found.same) return ['the same bytes'];
  const { packed, unpacked, modules } = found.bytes;
  return [
    `initramfs  ${sizes(packed.before, packed.after)}`,
    `unpacked   ${sizes(unpacked.before, unpacked.after)}, modules ${sizes(modules.before, modules.after)}`,
    ...found.manifest.map(({ field, before, after }) => `~ ${field}: ${shown(before)} -> ${shown(after)}`),
    ...found.modules.map(({ name, before, after }) => change(`module ${name}`, before, after)),
    ...found.files.map(({ path, before, after }) =>
      change(path, before && (before.size ?? 0), after && (after.size ?? 0), detail(before, after)),
    ),
  ].map(printable);
}

/** `+` for what is new, `-` for what went, `~` for what changed. */
function change(what: string, before: number | null, after: number | null, more = ''): string {
  if (before === null) return `+ ${what} (${after} bytes)`;
  if (after === null) return `- ${what} (${before} bytes)`;
  return `~ ${what} (${before === after ? `${after} bytes, other content` : `${before} -> ${after} bytes`})${more}`;
}

function detail(before: ManifestEntry | null, after: ManifestEntry | null): string {
  if (!before || !after) return '';
  const keys = ['type', 'mode', 'target', 'device'] as const;
  const changed = keys.filter((key) => before[key] !== after[key]);
  return changed.map((key) => `, ${key} ${before[key] ?? 'none'} -> ${after[key] ?? 'none'}`).join('');
}

function sizes(before: number, after: number): string {
  const by = after - before;
  return `${before} -> ${after} bytes (${by > 0 ? '+' : ''}${by})`;
}

function shown(value: unknown): string {
  if (Array.isArray(value)) return value.join(', ') || 'none';
  return value === null ? 'none' : String(value);
}

/** Why a module is there, for people. */
export function explanationLines(found: Explanation): string[] {
  const { name, state, size, stage, reason, chain, neededBy, dependencies, preset } = found;
  const lines = {
    carried: `${name}: in the initramfs, ${size} bytes`,
    'built in': `${name}: built into the kernel, so that there is nothing to carry`,
    absent: `${name}: asked for as optional; this kernel does not have it`,
    unknown: `${name}: neither in the initramfs nor built into its kernel; --module ${name} would ask for it`,
  };
  const when = stage === 'hello' ? 'before the agent says hello' : 'when a request or a device needs it';
  return [
    lines[state],
    ...(chain.length > 1 ? [`brought along by ${chain.join(' -> ')}`] : []),
    ...(reason === null ? [] : [`${chain[0]}: ${reason}`]),
    ...(stage === null ? [] : [`loaded ${when}`]),
    ...(preset === null ? [] : [`preset ${preset}`]),
    ...(dependencies.length > 0 ? [`depends on ${dependencies.join(', ')}`] : []),
    ...(neededBy.length > 0 ? [`needed by ${neededBy.join(', ')}`] : []),
  ].map(printable);
}
