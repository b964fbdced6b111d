/** `ya-vm gpu`: the graphics cards of this host, and what it takes to give one to a VM. */
import { execFileSync } from 'node:child_process';
import type { Command } from 'commander';
import { loadNative } from '../../native/load.ts';
import { type BindEffects, type Bound, bindCard, HOST_EFFECTS, unbindCard } from '../gpu/bind.ts';
import { type Card, findCards } from '../gpu/cards.ts';
import { checkCard, type Finding } from '../gpu/checks.ts';
import { type Facing, hostFacts } from '../gpu/host-facts.ts';
import { cardAt, cardsAt } from '../gpu/select.ts';
import { HOST, type HostRoots } from '../gpu/sysfs.ts';
import { KVM_DEVICE, kvmGroups, modeOf, qemuUser } from '../runtime/privileges.ts';
import type { Act } from './commands.ts';
import { type Context, print, printJson, styleOf } from './context.ts';
import { EXIT } from './exit.ts';
import { forOption, parseMemory, usageError } from './options.ts';
import { alignColumns } from './style.ts';

/** What the commands look at and change; tests give a tree of their own. */
export interface GpuHost {
  facing: Facing;
  effects: BindEffects;
  /** Group that gets the nodes of bound cards; null: none. */
  gid: number | null;
}

const SLOT = 'address of the card, as 0000:01:00.0';

export function define(command: Command, act: Act): void {
  const list = command
    .command('list')
    .description('graphics cards, their drivers and IOMMU groups')
    .option('--json', 'print an array')
    .addHelpText('after', '\nExample:\n  ya-vm gpu list');
  act(list, (context, options) => gpuList(context, options, thisHost()));
  const check = command
    .command('check')
    .description('what keeps cards from a VM, and how to fix it; exit code 1 when something does')
    .argument('[slot...]', `${SLOT} (default: all)`)
    .option(
      '-m, --memory <size>',
      'of the VM that is to have them: all of it is locked',
      forOption('-m', parseMemory),
    )
    .option('--json', 'print an array')
    .addHelpText('after', '\nExample:\n  ya-vm gpu check 01:00.0 -m 16G');
  act(check, (context, options, [slots]) => gpuCheck(context, options, slots as string[], thisHost()));
  const bind = command
    .command('bind')
    .description('give all functions of a card to vfio-pci, until the next boot of this host; takes root')
    .argument('<slot>', SLOT)
    .option('--force', "also the card with this host's console")
    .option('--json', 'print an array')
    .addHelpText('after', '\nExample:\n  sudo ya-vm gpu bind 01:00.0');
  act(bind, (context, options, [slot]) => gpuBind(context, options, slot as string, thisHost()));
  const unbind = command
    .command('unbind')
    .description("give a card back to the host's drivers; takes root")
    .argument('<slot>', SLOT)
    .option('--json', 'print an array')
    .addHelpText('after', '\nExample:\n  sudo ya-vm gpu unbind 01:00.0');
  act(unbind, (context, options, [slot]) => gpuUnbind(context, options, slot as string, thisHost()));
}

export function thisHost(roots: HostRoots = HOST): GpuHost {
  const [gid = null] = kvmGroups(modeOf(KVM_DEVICE));
  return {
    facing: { roots, user: (devices) => qemuUser(undefined, devices), locker: loadNative() },
    effects: {
      ...HOST_EFFECTS,
      loadDriver: (name) => void execFileSync('modprobe', [name], { stdio: 'pipe' }),
    },
    gid,
  };
}

export async function gpuList(
  context: Context,
  { json }: { json?: boolean },
  { facing: { roots } }: GpuHost,
): Promise<number> {
  const cards = findCards(roots);
  if (json) {
    await printJson(context, cards);
    return EXIT.ok;
  }
  if (cards.length === 0) {
    await print(context, 'no graphics card');
    return EXIT.ok;
  }
  const headings = ['SLOT', 'VENDOR', 'KIND', 'IDS', 'DRIVER', 'GROUP', 'FUNCTIONS'];
  const [head, ...rows] = alignColumns([headings, ...cards.map(cells)]);
  await print(context, styleOf(context, context.stdout).bold(head as string), ...rows);
  return EXIT.ok;
}

function cells({ slot, vendor, kind, ids, group, functions }: Card): string[] {
  const driver = functions.find((each) => each.slot === slot)?.driver ?? '-';
  return [slot, vendor, kind, ids, driver, group === null ? '-' : String(group), String(functions.length)];
}

/** With slots it is about a VM that has all of them; without, about each card for itself. */
export async function gpuCheck(
  context: Context,
  { json, memory }: { json?: boolean; memory?: number },
  slots: readonly string[],
  { facing }: GpuHost,
): Promise<number> {
  const all = findCards(facing.roots);
  const cards = slots.length === 0 ? all : cardsAt(all, slots);
  const together =
    slots.length === 0 ? null : cards.flatMap(({ functions }) => functions.map(({ slot }) => slot));
  const results = cards.map((card) => ({
    slot: card.slot,
    findings: checkCard(
      card,
      hostFacts(card, facing),
      memory ?? null,
      together ?? card.functions.map(({ slot }) => slot),
    ),
  }));
  if (json) await printJson(context, results);
  else if (results.length === 0) await print(context, 'no graphics card');
  else await print(context, ...results.flatMap(({ slot, findings }) => checkLines(context, slot, findings)));
  return results.some(({ findings }) => findings.length > 0) ? EXIT.unhealthy : EXIT.ok;
}

function checkLines(context: Context, slot: string, findings: readonly Finding[]): string[] {
  const style = styleOf(context, context.stdout);
  if (findings.length === 0) return [`${style.green('✔')} ${slot}  can be passed to a VM`];
  return findings.flatMap(({ code, problem, fix }) => [
    `${style.red('✘')} ${slot}  ${problem} (${code})`,
    `    ${fix}`,
  ]);
}

export async function gpuBind(
  context: Context,
  { json, force }: { json?: boolean; force?: boolean },
  slot: string,
  { facing, effects, gid }: GpuHost,
): Promise<number> {
  const card = idleCard(slot, facing);
  const bound = bindCard(card, { roots: facing.roots, effects, gid, force: force === true });
  return await printBound(context, json, bound);
}

export async function gpuUnbind(
  context: Context,
  { json }: { json?: boolean },
  slot: string,
  { facing, effects }: GpuHost,
): Promise<number> {
  return await printBound(context, json, unbindCard(idleCard(slot, facing), facing.roots, effects));
}

/** The kernel would wait until the VM ends, and the command with it. */
function idleCard(slot: string, facing: Facing): Card {
  const card = cardAt(findCards(facing.roots), slot);
  if (!hostFacts(card, facing).busy) return card;
  throw usageError(`a VM has the card ${card.slot}`, 'ya-vm ps, ya-vm stop ID');
}

async function printBound(context: Context, json: boolean | undefined, bound: Bound[]): Promise<number> {
  if (json) await printJson(context, bound);
  else {
    const lines = bound.map(({ slot, from, to }) =>
      from === to
        ? `${slot}  stays with ${to ?? 'no driver'}`
        : `${slot}  ${from ?? 'no driver'} → ${to ?? 'no driver'}`,
    );
    await print(context, ...lines);
  }
  return EXIT.ok;
}
