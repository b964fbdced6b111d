/** `ya-vm initramfs sets [name]`: lists kernel sets, or builds one. */
import type { Command } from 'commander';
import { loadNative } from '../../native/load.ts';
import { buildKernelSet } from '../kernel-sets/build.ts';
import { readWhole } from '../kernel-sets/verify.ts';
import { builtSets, findKernelSet, isOwn, KERNEL_SETS, type KernelSet, setKey } from '../lib/kernel-set.ts';
import { assetsFolder } from '../lib/paths.ts';
import { signingKey } from '../lib/signature.ts';
import type { Act } from './commands.ts';
import { type Context, note, print, printJson } from './context.ts';
import { ownVersion } from './version.ts';

const EXAMPLES = `
A set is a kernel and an initramfs: '--kernel-set NAME' boots it, and YA_VM_KERNEL_SET=NAME makes it the default, a
provider's too. Building one downloads Debian's kernel package through apt; nothing is installed.

Examples:
  ya-vm initramfs sets                   what there is, and whether it is whole
  ya-vm initramfs sets gpu               build it, unless it is there
  ya-vm initramfs sets gpu --update      with the newest kernel that apt offers`;

/** What the list says of one. */
interface Row {
  name: string;
  summary: string;
  state: 'built' | 'not built' | 'damaged';
  /** Null: not built. */
  folder: string | null;
  kernel: string | null;
  package: string | null;
  /** Bytes that it takes; null unless built. */
  size: number | null;
}

export function registerSets(command: Command, act: Act): void {
  const sets = command
    .command('sets')
    .argument('[name]', 'the set to build')
    .description('list kernel sets, or build one')
    .option('--update', 'build it with the newest kernel that apt offers')
    .option('--sign <key>', 'build it, and sign it with this Ed25519 key (PEM)')
    .option('--json', 'print an array, or what was built')
    .addHelpText('after', EXAMPLES);
  act(sets, async (context, options, [name]) => {
    if (name !== undefined) await build(context, findKernelSet(name as string), options);
    const wanted = KERNEL_SETS.filter((set) => name === undefined || set.name === name);
    const rows = await Promise.all(wanted.map((set) => describe(context, set)));
    if (options.json) await printJson(context, name === undefined ? rows : rows[0]);
    else await print(context, ...rows.flatMap(lines));
    return 0;
  });
}

async function build(context: Context, set: KernelSet, given: Record<string, unknown>): Promise<void> {
  // It comes with ya-vm; `make build` or an update of ya-vm renews it.
  if (isOwn(set)) return;
  const options = {
    env: context.env,
    native: loadNative(),
    // An interrupt ends this program; what it leaves is removed by the next build.
    signal: new AbortController().signal,
    version: await ownVersion(),
    update: given.update === true,
    sign: typeof given.sign === 'string' ? signingKey(given.sign) : undefined,
    onProgress: (line: string) => void note(context, line),
  };
  await buildKernelSet(set, options);
}

async function describe({ env }: Context, set: KernelSet): Promise<Row> {
  const folder = isOwn(set) ? assetsFolder(env) : builtSets(env, set, setKey(set, env)).at(-1);
  const { name, summary } = set;
  const empty = { name, summary, folder: folder ?? null, kernel: null, package: null, size: null };
  if (folder === undefined) return { ...empty, state: 'not built' };
  const manifest = await readWhole(folder);
  if (manifest === null) return { ...empty, state: 'damaged' };
  const { release, package: from } = manifest.kernel;
  return {
    ...{ name, summary, state: 'built', folder, kernel: release },
    package: from && `${from.name} ${from.version}`,
    size: manifest.vmlinux.size + manifest.initramfs.size,
  };
}

function lines({ name, summary, state, folder, kernel, package: from, size }: Row): string[] {
  const what =
    state === 'built'
      ? `${kernel}${from ? ` (${from})` : ''}, ${Math.round((size ?? 0) / 1e6)} MB in ${folder}`
      : state === 'damaged'
        ? `damaged: ${folder}; 'ya-vm initramfs sets ${name}' builds it again`
        : `not built: ya-vm initramfs sets ${name}`;
  return [`${name.padEnd(8)} ${summary}`, `${' '.repeat(8)} ${what}`];
}
