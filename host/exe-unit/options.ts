/** What the command line of `service-bus` and `from-file` says, checked. Pure. Facts: the spec's exe-unit.md, 3.1. */
import { type ProviderGpu, pciDevices, providerGpu } from '../gpu/options.ts';
import { YavmError } from '../lib/errors.ts';
import type { AccelChoice } from '../runtime/types.ts';

type Environment = Readonly<Record<string, string | undefined>>;

export interface ExeUnitOptions {
  /** Without one (from-file) nothing is bound on the bus. */
  activityId?: string;
  /** Address under which state and usage are reported, `/local/activity` from the provider. Without one they are not. */
  reportUrl?: string;
  /** The agreement's file. */
  agreement: string;
  workFolder: string;
  cacheFolder: string;
  /** from-file: the script's file. */
  script?: string;
  /** True: the agreement's limits are watched here (7.4); false (`--cap-handoff`): the VM's size is the limit. */
  limitsWatched: boolean;
  accel: AccelChoice;
  /** Cards of the host that the VM gets. */
  gpu: ProviderGpu;
  /** What was given and has no effect, each as a sentence for the log. */
  warnings: string[];
}

/** Longest activity id, characters. Yagna's have 32. */
const MAX_ID = 256;
const ACCELERATORS: readonly AccelChoice[] = ['auto', 'kvm', 'tcg'];

/** @throws {YavmError} YAVM_E_USAGE */
export function readExeUnitOptions(
  given: Readonly<Record<string, unknown>>,
  env: Environment,
): ExeUnitOptions {
  const { activityId, reportUrl, script, accel } = given as Record<string, string | undefined>;
  const options: ExeUnitOptions = {
    agreement: required(given.agreement, '-a, --agreement'),
    workFolder: required(given.workDir, '-w, --work-dir'),
    cacheFolder: required(given.cacheDir, '-c, --cache-dir'),
    limitsWatched: given.capHandoff !== true && given.runtimeManagedHardware !== true,
    accel: readAccel(accel ?? env.YA_VM_ACCEL),
    gpu: providerGpu(given, env),
    warnings: warningsOf(given),
  };
  if (activityId !== undefined) options.activityId = checkId(activityId);
  if (reportUrl !== undefined) options.reportUrl = checkAddress(reportUrl);
  if (script !== undefined) options.script = script;
  return options;
}

function required(value: unknown, option: string): string {
  if (typeof value === 'string' && value !== '') return value;
  throw usage(`${option} is missing`);
}

/** It becomes a part of addresses on the bus, and of a file's name. */
function checkId(id: string): string {
  if (id !== '' && id.length <= MAX_ID && isWord(id) && !id.includes('/')) return id;
  throw usage(`'${id.slice(0, MAX_ID)}' is no activity id`);
}

function checkAddress(address: string): string {
  if (address !== '' && isWord(address)) return address;
  throw usage(`'${address}' is no address on the bus`);
}

/** No blanks, no control characters. */
function isWord(text: string): boolean {
  return /^[^\s\p{Cc}]+$/u.test(text);
}

/** Who pays for a VM expects a CPU: emulation has to be asked for. */
function readAccel(choice: string | undefined): AccelChoice {
  if (choice === undefined || choice === '') return 'kvm';
  const known = ACCELERATORS.find((each) => each === choice);
  if (known) return known;
  throw usage(`'${choice}' is no accelerator`, `Choose one of: ${ACCELERATORS.join(', ')}.`);
}

function warningsOf({ binary, runtimeArg }: Readonly<Record<string, unknown>>): string[] {
  const warnings: string[] = [];
  if (binary !== undefined) warnings.push(`-b ${binary}: not executed, ya-vm is its own runtime`);
  const others = Array.isArray(runtimeArg) ? pciDevices(runtimeArg).others : 0;
  if (others > 0) {
    warnings.push(`-r: ${others} arguments for another runtime have no effect`);
  }
  return warnings;
}

function usage(message: string, hint?: string): YavmError {
  return new YavmError('YAVM_E_USAGE', message, { hint });
}
