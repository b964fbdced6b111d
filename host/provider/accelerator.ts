/** Which acceleration a provider's VMs get: emulation has to be asked for, because nobody should sell a slow CPU unknowingly. */
import { findYavmError, YavmError } from '../lib/errors.ts';
import type { AccelChoice } from '../runtime/types.ts';

type Environment = Readonly<Record<string, string | undefined>>;

const CHOICES: readonly AccelChoice[] = ['auto', 'kvm', 'tcg'];

/** `--accel`, else `$YA_VM_ACCEL`, else KVM. @throws {YavmError} YAVM_E_USAGE */
export function providerAccel(option: string | undefined, env: Environment): AccelChoice {
  const choice = option ?? (env.YA_VM_ACCEL || 'kvm');
  const known = CHOICES.find((each) => each === choice);
  if (known) return known;
  throw new YavmError('YAVM_E_USAGE', `'${choice}' is no accelerator`, {
    hint: `Choose one of: ${CHOICES.join(', ')}.`,
  });
}

/** The same error; where KVM was missing, with what a provider can do about it. */
export function explainNoKvm(error: unknown): unknown {
  const ours = findYavmError(error);
  if (ours?.code !== 'YAVM_E_KVM') return error;
  return new YavmError('YAVM_E_NO_KVM', `this host cannot sell VMs: ${ours.message}`, {
    hint: "See 'ya-vm doctor'. To sell slow, emulated CPUs, which the offer then says: YA_VM_ACCEL=tcg in the provider's environment",
  });
}
