/** The self-test: boots a VM as a task gets it, and tries what an offer promises. Spec: runtime-vm.md 8. */
import { withDeadline } from '../lib/deadline.ts';
import { YavmError } from '../lib/errors.ts';
import type { Phase, VmSpec } from '../runtime/types.ts';
import type { Vm } from '../runtime/vm.ts';
import { parseCpuInfo } from './cpu.ts';
import { type GpuFacts, namelessCards, parseNvidiaSmi } from './gpu-facts.ts';
import { GPU_CAPABILITIES } from './gpu-offer.ts';
import { TEST_PEERS, type TestNetwork } from './test-network.ts';
import type { Verdict } from './verdict.ts';

/** What of a VM is tried. */
export type TestVm = Pick<Vm, 'accel' | 'start' | 'run' | 'stop' | 'kill'> & Partial<Pick<Vm, 'gpus'>>;

export interface SelfTestOptions {
  boot: (onPhase: (phase: Phase) => void) => Promise<TestVm>;
  /** One line each, as it is done. */
  say(line: string): void;
  /** The image's own program, for the capability `start-entrypoint`. */
  entrypoint: string[];
  /** The VM has cards of the host: they must work. */
  gpu?: boolean;
  /** It is to go on from a template. Who cannot boots, and sells slower starts. */
  templates?: boolean;
}

/** For one command, milliseconds: an emulated VM on a busy host takes a second. */
const COMMAND_DEADLINE = 30_000;
const STOP_DEADLINE = 30_000;
/** For the one answer that a ping waits for, seconds. */
const PING_WAIT = 10;
/** Output that must arrive whole, bytes. */
const BULK = 1024 * 1024;
const MAX_TEXT = 64 * 1024;
const ENV = ['PATH=/usr/sbin:/usr/bin:/sbin:/bin'];

interface Outcome {
  exitCode: number;
  /** The first {@link MAX_TEXT} bytes. */
  stdout: string;
  stderr: string;
  /** Of stdout. */
  bytes: number;
  complete: boolean;
}

interface Check {
  says: string;
  script: string;
  passed(outcome: Outcome): boolean;
}

const CHECKS: readonly Check[] = [
  {
    says: 'a command runs: its output, its errors and its exit code come back',
    script: 'echo out; echo err >&2; exit 7',
    passed: ({ exitCode, stdout, stderr }) => exitCode === 7 && stdout === 'out\n' && stderr === 'err\n',
  },
  {
    says: 'a mebibyte of output is complete',
    script: `head -c ${BULK} /dev/zero`,
    passed: ({ exitCode, bytes, complete }) => exitCode === 0 && bytes === BULK && complete,
  },
  {
    says: 'what is written to / can be read again',
    script: 'mkdir -p /golem && echo kept > /golem/self-test && sync && cat /golem/self-test',
    passed: ({ exitCode, stdout }) => exitCode === 0 && stdout === 'kept\n',
  },
];

/** Capabilities that do not depend on the VM: the exe-unit reads manifests, whatever it runs on. */
const OF_THE_HOST = ['manifest-support'];

/** @throws {YavmError} YAVM_E_SELF_TEST for what does not work in the VM; what keeps it from starting */
export async function selfTest(options: SelfTestOptions): Promise<Verdict> {
  const { boot, say, entrypoint, gpu = false, templates = false } = options;
  const began = performance.now();
  const phases = new Map<string, number>();
  const vm = await boot(({ name, milliseconds }) => {
    phases.set(name, milliseconds);
    say(`  ${name}: ${milliseconds} ms`);
  });
  const verdict: Verdict = {
    accel: vm.accel,
    cpu: { vendor: '', brand: '', model: '', capabilities: [] },
    capabilities: [...OF_THE_HOST],
  };
  try {
    say(`ok: a VM starts (${vm.accel}, ${Math.round(performance.now() - began)} ms)`);
    if (templates) say(templateLine(vm, phases));
    for (const check of CHECKS) {
      const outcome = await run(vm, ['sh', '-c', check.script]);
      if (!check.passed(outcome)) throw failed(check.says, outcome);
      say(`ok: ${check.says}`);
    }
    verdict.cpu = parseCpuInfo((await run(vm, ['cat', '/proc/cpuinfo'])).stdout);
    say(`ok: CPU of the VM: ${verdict.cpu.brand}`);
    if (gpu) {
      verdict.gpu = await tryCards(vm);
      verdict.capabilities.push(...GPU_CAPABILITIES);
      say(`ok: graphics cards of the VM: ${verdict.gpu.cards.map(({ model }) => model).join(', ')}`);
    }
    if ((await run(vm, entrypoint)).exitCode === 0) {
      verdict.capabilities.push('start-entrypoint');
      say("ok: the image's own program starts");
    }
    for (const [name, peer] of Object.entries(TEST_PEERS)) {
      if ((await run(vm, ['ping', '-c', '1', '-W', String(PING_WAIT), peer])).exitCode === 0) {
        verdict.capabilities.push(name);
        say(`ok: frames cross the ${name.toUpperCase()} network's cable, both ways`);
      } else {
        say(
          `not ok: no frame came back through the ${name.toUpperCase()} network's cable: it is not offered`,
        );
      }
    }
    await withDeadline(vm.stop(), STOP_DEADLINE, 'the VM to stop');
    say('ok: the VM stops in order');
  } finally {
    await vm.kill();
  }
  return verdict;
}

/** Whether it booted, or what it did instead; and what that took. */
function templateLine({ start }: TestVm, phases: ReadonlyMap<string, number>): string {
  if (start === 'boot')
    return "not ok: it booted: no template could be used ('ya-vm template build -m 256M' says why)";
  const made = phases.get('template');
  const making = made === undefined ? '' : `, after ${made} ms for making it`;
  return `ok: it went on from a template in ${phases.get('restore') ?? 0} ms, instead of booting${making}`;
}

/** The driver starts the card anew for each: seconds. The tool is the driver layer's. */
const SMI = ['nvidia-smi', '-q'];
const SMI_CAPABILITY = ['nvidia-smi', '--query-gpu=compute_cap', '--format=csv,noheader'];
const SMI_DEADLINE = 120_000;

/** What a driver layer's drivers say of their cards. @throws {YavmError} YAVM_E_SELF_TEST when none works */
async function tryCards(vm: TestVm): Promise<GpuFacts> {
  const gpus = vm.gpus ?? [];
  const others = namelessCards(gpus);
  let facts: GpuFacts = { cards: [] };
  if (others.length < gpus.length) {
    const query = await run(vm, SMI, SMI_DEADLINE);
    if (query.exitCode !== 0) throw failed('nvidia-smi finds the card', query);
    // Older drivers do not know the question.
    const capability = await run(vm, SMI_CAPABILITY, SMI_DEADLINE);
    facts = parseNvidiaSmi(query.stdout, capability.exitCode === 0 ? capability.stdout : '');
  }
  const cards = [...facts.cards, ...others];
  if (cards.length > 0) return { ...facts, cards };
  throw new YavmError('YAVM_E_SELF_TEST', 'the self-test failed: no graphics card works in the VM', {
    hint: "See 'ya-vm gpu check', and 'ya-vm test --log-level debug': the driver's own words are there.",
  });
}

async function run(vm: TestVm, argv: string[], deadline = COMMAND_DEADLINE): Promise<Outcome> {
  const [stdout, stderr] = [new Head(), new Head()];
  const command = await vm.run({ argv, env: ENV }, { stdout: stdout.take, stderr: stderr.take });
  const { exitCode, complete } = await withDeadline(
    command.result,
    deadline,
    `'${argv.join(' ')}' in the VM`,
  );
  return { exitCode, complete, bytes: stdout.bytes, stdout: stdout.text, stderr: stderr.text };
}

/** Counts a stream and keeps its beginning. */
class Head {
  bytes = 0;
  text = '';

  readonly take = (piece: Uint8Array): void => {
    if (this.bytes < MAX_TEXT) this.text += Buffer.from(piece).toString('latin1');
    this.bytes += piece.length;
  };
}

function failed(what: string, { exitCode, stdout, stderr, bytes }: Outcome): YavmError {
  const said = (stderr || stdout).trim().slice(0, 200);
  const evidence = `exit code ${exitCode}, ${bytes} bytes${said === '' ? '' : `, '${said}'`}`;
  return new YavmError('YAVM_E_SELF_TEST', `the self-test failed: not so: ${what} (${evidence})`, {
    hint: "See 'ya-vm doctor', and 'ya-vm test --log-level debug'.",
  });
}

/** Of the VM of the self-test, MiB. NVIDIA's driver does not start in less than about 1 GiB. */
export function selfTestMemory(gpu: boolean): number {
  return gpu ? 2048 : 256;
}

/** The VM of the self-test. */
export function selfTestSpec(
  spec: Pick<VmSpec, 'assets' | 'layers' | 'accel' | 'gpu' | 'driverLayer'>,
  { links }: Pick<TestNetwork, 'links'>,
): VmSpec {
  return {
    ...spec,
    // It is about what works, not about where memory comes from, and small.
    hugepages: undefined,
    network: { links },
    root: { disk: 64 * 1024 * 1024 },
    memoryMiB: selfTestMemory(spec.gpu !== undefined),
    cpus: 1,
    hostname: 'golem',
    title: 'self-test',
  };
}
