/** `ya-vm doctor`: what this host lacks, and the exact command that fixes it. */
import { userInfo } from 'node:os';
import { dirname } from 'node:path';
import type { Command } from 'commander';
import { loadNative } from '../../native/load.ts';
import { toError, YavmError } from '../lib/errors.ts';
import { bootFiles } from '../lib/kernel-set.ts';
import { assetsFolder, cacheFolder, runBase } from '../lib/paths.ts';
import { tryPasst } from '../network/outbound/try-passt.ts';
import { diskFolder } from '../runtime/root-disk.ts';
import type { Act } from './commands.ts';
import { type Context, print, printJson, styleOf } from './context.ts';
import { CHECKS, type CheckRow, type Finding, type Status } from './doctor/checks.ts';
import { probeKvm } from './doctor/kvm.ts';
import { hostProbes, type Probes, type TemplateFacts } from './doctor/probes.ts';
import { EXIT } from './exit.ts';

export function define(command: Command, act: Act): void {
  command
    .option('--kernel-set <name>', 'look at this kernel set (default: YA_VM_KERNEL_SET, else cloud)')
    .option('--json', 'print an object')
    .option('--no-boot', 'do not boot a probe VM to see whether KVM works (only when no verdict is cached)')
    .addHelpText('after', '\nExit code 1 when something that ya-vm needs is missing; warnings do not count.');
  act(command, (context, options) =>
    doctor(
      context,
      options,
      realProbes(context, options.boot !== false, options.kernelSet as string | undefined),
    ),
  );
}

export interface CheckResult extends Finding {
  name: string;
}

/** Runs the checks one after the other and prints each as it is done. */
export async function doctor(
  context: Context,
  options: { json?: boolean },
  probes: Probes,
  rows: readonly CheckRow[] = CHECKS,
): Promise<number> {
  const results: CheckResult[] = [];
  const width = Math.max(...rows.map(({ name }) => name.length));
  for (const { name, check } of rows) {
    const result = { name, ...(await findingOf(check, probes)) };
    results.push(result);
    if (!options.json) await print(context, ...resultLines(context, result, width));
  }
  const failed = results.filter(({ status }) => status === 'fail').length;
  if (options.json) await printJson(context, { ok: failed === 0, checks: results });
  else await print(context, '', verdict(results));
  return failed === 0 ? EXIT.ok : EXIT.unhealthy;
}

/** What a check throws is its finding; the others still run. */
export async function findingOf(check: CheckRow['check'], probes: Probes): Promise<Finding> {
  try {
    return await check(probes);
  } catch (error) {
    if (error instanceof YavmError) return { status: 'fail', detail: error.message, fix: error.hint };
    return { status: 'fail', detail: `the check itself failed: ${toError(error).message}` };
  }
}

const MARKS: Readonly<Record<Status, string>> = { ok: '✔', warn: '!', fail: '✘' };

/** A result for people. */
export function resultLines(
  context: Context,
  { name, status, detail, fix }: CheckResult,
  width: number,
): string[] {
  const style = styleOf(context, context.stdout);
  const paint = { ok: style.green, warn: style.yellow, fail: style.red }[status];
  const line = `${paint(MARKS[status])} ${name.padEnd(width)}  ${detail}`;
  return fix === undefined ? [line] : [line, `  ${' '.repeat(width)}  ${style.bold(`→ ${fix}`)}`];
}

function verdict(results: readonly CheckResult[]): string {
  const count = (wanted: Status) => results.filter(({ status }) => status === wanted).length;
  const [failed, warnings] = [count('fail'), count('warn')];
  if (failed > 0) return `ya-vm cannot run VMs here yet: ${failed} of ${results.length} checks failed.`;
  return warnings > 0
    ? `ya-vm can run VMs here, with ${warnings} warning${warnings > 1 ? 's' : ''}.`
    : 'All is well.';
}

/** Of this host. `boot`: a guest may be booted to see whether KVM works. `kernelSet`: default as for VMs. */
export function realProbes(context: Context, boot: boolean, kernelSet?: string): Probes {
  const assets = assetsFolder(context.env);
  return {
    ...hostProbes(context.env),
    platform: process.platform,
    architecture: process.arch,
    nodeVersion: process.version,
    uid: process.getuid?.() ?? 0,
    gid: process.getgid?.() ?? 0,
    user: userName(),
    runBase: runBase(context.env),
    disks: diskFolder(context.env),
    cache: cacheFolder(context.env),
    assets,
    kernel: () => dirname(bootFiles(context.env, kernelSet).manifest),
    passt: () => tryPasst(loadNative(), context.env),
    templates: () => templateFacts(context.env),
    acceleration: () => probeKvm({ assets, boot, log: context.log, env: context.env }),
  };
}

async function templateFacts(env: Context['env']): Promise<TemplateFacts> {
  const { startChoice } = await import('../runtime/template/choose.ts');
  const { TemplateStore } = await import('../runtime/template/store.ts');
  const store = new TemplateStore(env);
  const { folder, limit } = store;
  const listed = store.list();
  const size = listed.reduce((sum, each) => sum + each.size, 0);
  return { choice: startChoice(undefined, env), folder, limit, size, count: listed.length };
}

/** A user without an entry in passwd, as containers have them, goes by number. */
function userName(): string {
  try {
    return userInfo().username;
  } catch {
    return String(process.getuid?.());
  }
}
