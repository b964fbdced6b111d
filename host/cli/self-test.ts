/** `ya-vm self-test`: the first command after an installation. doctor's checks, then the VM that a provider's self-test boots. */
import type { Command } from 'commander';
import { findYavmError, toError } from '../lib/errors.ts';
import type { AccelChoice } from '../runtime/types.ts';
import type { Act } from './commands.ts';
import { type Context, print, printJson } from './context.ts';
import { CHECKS, type CheckRow } from './doctor/checks.ts';
import type { Probes } from './doctor/probes.ts';
import { type CheckResult, findingOf, realProbes, resultLines } from './doctor.ts';
import { EXIT } from './exit.ts';
import { Interrupted } from './interrupts.ts';
import { forOption, parseChoice } from './options.ts';
import { runSelfTest } from './provider-test.ts';
import { ACCELERATORS } from './vm-options.ts';

const HELP = `
The checks are those of 'ya-vm doctor'. The VM is the one that a provider's self-test boots; what it finds out is remembered.
Without KVM it is emulated, unless --accel kvm says that this does not do. Exit code 1 when something failed; warnings do not count.`;

export function define(command: Command, act: Act): void {
  command
    .option('--json', 'print an object')
    .option(
      '--accel <auto|kvm|tcg>',
      'acceleration of the VM',
      forOption('--accel', (text) => parseChoice(text, ACCELERATORS, 'accelerator')),
      'auto',
    )
    .addHelpText('after', HELP);
  act(command, (context, { json, accel }) =>
    selfTest(context, { json: json === true, accel: accel as AccelChoice }, realProbes(context, true)),
  );
}

const EMULATED = 'What /dev/kvm lacks is said above. Without KVM, slowly: ya-vm self-test --accel tcg';

/** Tries a VM, telling each thing that was tried in a line: `ok: …` or `not ok: …`. @throws {YavmError} why it does not work */
type TryVm = typeof runSelfTest;

/** The others are replaced by tests. @returns the exit code. */
export async function selfTest(
  context: Context,
  { json, accel }: { json: boolean; accel: AccelChoice },
  probes: Probes,
  { rows = CHECKS, tryVm = runSelfTest }: { rows?: readonly CheckRow[]; tryVm?: TryVm } = {},
): Promise<number> {
  const results: CheckResult[] = [];
  const width = Math.max(...rows.map(({ name }) => name.length));
  // The VM's lines come one by one from a callback that nobody waits for: printed in order by being chained.
  let printed = Promise.resolve();
  const add = (result: CheckResult) => {
    results.push(result);
    if (!json) printed = printed.then(() => print(context, ...resultLines(context, result, width)));
  };
  for (const { name, check } of rows) add({ name, ...(await findingOf(check, probes)) });
  try {
    await tryVm(context, accel, (line) => {
      const [, not, detail] = /^(not )?ok: (.*)$/s.exec(line) ?? [];
      if (detail !== undefined) add({ name: 'VM', status: not ? 'warn' : 'ok', detail });
    });
  } catch (error) {
    if (error instanceof Interrupted) throw error;
    const ours = findYavmError(error);
    // The hint of that one is about selling VMs.
    const hint = ours?.code === 'YAVM_E_NO_KVM' ? EMULATED : ours?.hint;
    const fix = hint ?? "See 'ya-vm self-test --log-level debug'.";
    add({
      name: 'VM',
      status: 'fail',
      detail: `${toError(error).message}${ours ? ` (${ours.code})` : ''}`,
      fix,
    });
  }
  await printed;
  const failed = results.filter(({ status }) => status === 'fail').length;
  if (json) await printJson(context, { ok: failed === 0, checks: results });
  else await print(context, '', verdict(results, failed));
  return failed === 0 ? EXIT.ok : EXIT.unhealthy;
}

function verdict(results: readonly CheckResult[], failed: number): string {
  if (failed > 0) return `failed: ${failed} of ${results.length}. What puts it right stands beneath each.`;
  const warnings = results.filter(({ status }) => status === 'warn').length;
  return `ok: ya-vm runs VMs here${warnings > 0 ? `, with ${warnings} warning${warnings > 1 ? 's' : ''}` : ''}.`;
}
