/** Why a VM ended: what was seen of its end, and the error that it makes. Pure. */
import type { ExitStatus } from '../../native/face.ts';
import { type ErrorCode, YavmError } from '../lib/errors.ts';
import { printable } from '../lib/logger.ts';
import { AGENT_EXIT } from './qemu-arguments.ts';
import type { QmpEvent } from './qmp.ts';

/** How a VM ended. */
export interface VmEnd {
  /** `stopped` and `killed`: as asked; `failed`: by itself, or because of what its guest did. */
  reason: 'stopped' | 'killed' | 'failed';
  /** Why it failed: what everyone who waited for it got. */
  error: YavmError | null;
  /** Whether the guest ended its processes and unmounted its file systems before. */
  orderly: boolean;
  /** What QEMU took in all, seconds. */
  cpuSeconds: number;
}

/** What is known when QEMU is gone. */
export interface EndFacts {
  exit: Pick<ExitStatus, 'code' | 'signal'>;
  events: readonly QmpEvent[];
  /** The console's tail, raw; and its last lines, fit to be shown. */
  consoleText: string;
  consoleLines: readonly string[];
  /** What the agent said on the log port before it gave up. */
  lastWords: string | null;
  /** Last lines of QEMU's own messages. */
  qemuMessages: readonly string[];
}

const AGENT_ENDS: Readonly<Record<number, string>> = {
  [exitCodeOf(AGENT_EXIT.uncaughtError)]: 'an error that nothing caught',
  [exitCodeOf(AGENT_EXIT.nativeCrash)]: 'a crash in native code',
  [exitCodeOf(AGENT_EXIT.outOfMemory)]: 'it ran out of memory',
};

/** QEMU's exit code for a value that the guest writes to isa-debug-exit. */
function exitCodeOf(value: number): number {
  return (value << 1) | 1;
}

/** The error for an end that nobody asked for. */
export function describeEnd(facts: EndFacts): YavmError {
  const { exit, events, consoleText, lastWords } = facts;
  const aborted = exit.code === undefined ? undefined : AGENT_ENDS[exit.code];
  if (aborted) {
    const words = lastWords === null ? '' : `: ${firstLine(lastWords)}`;
    return withEvidence('YAVM_E_AGENT_ABORT', `the guest's agent gave up, by ${aborted}${words}`, facts);
  }
  const panic = consoleText.match(/Kernel panic - not syncing: ([^\r\n]*)/);
  if (panic || events.some(({ event }) => event === 'GUEST_PANICKED')) {
    const why = panic ? `: ${printable((panic[1] as string).slice(0, 200))}` : '';
    const consoleLines = fromPanic(facts.consoleLines);
    return withEvidence('YAVM_E_GUEST_PANIC', `the guest's kernel panicked${why}`, {
      ...facts,
      consoleLines,
    });
  }
  const reason = events.findLast(({ event }) => event === 'SHUTDOWN')?.data.reason;
  if (reason === 'guest-shutdown' || reason === 'guest-reset') {
    const what = reason === 'guest-shutdown' ? 'powered itself off' : 'restarted itself';
    return withEvidence('YAVM_E_GUEST_POWEROFF', `the guest ${what}`, facts);
  }
  const how = exit.signal === undefined ? `with code ${exit.code}` : `by signal ${exit.signal}`;
  return withEvidence('YAVM_E_QEMU_DIED', `QEMU ended ${how}`, facts, qemuHint(facts));
}

/** A panic prints its reason first, then pages of registers: the lines from the reason on, not the very last. */
function fromPanic(lines: readonly string[]): readonly string[] {
  const start = lines.findIndex((line) => line.includes('Kernel panic'));
  return start < 0 ? lines : lines.slice(start, start + QUOTED);
}

/** The error for a guest that did not say hello in time. */
export function bootTimeout(milliseconds: number, facts: Omit<EndFacts, 'exit'>): YavmError {
  return withEvidence(
    'YAVM_E_BOOT_TIMEOUT',
    `the guest has not started within ${milliseconds / 1000} s`,
    facts,
    'A machine under heavy load may need longer; a second try starts with the time that the last start took.',
  );
}

/** Lines of each source that an error quotes. */
const QUOTED = 10;

function withEvidence(
  code: ErrorCode,
  message: string,
  facts: Omit<EndFacts, 'exit'>,
  hint?: string,
): YavmError {
  const { consoleLines, lastWords, qemuMessages } = facts;
  const parts = [
    section("QEMU's messages", qemuMessages.slice(-QUOTED)),
    section("the agent's last words", lastWords?.split('\n').slice(0, QUOTED) ?? []),
    section('the last lines of the console', consoleLines.slice(-QUOTED)),
  ];
  return new YavmError(code, message + parts.join(''), { hint });
}

function section(title: string, lines: readonly string[]): string {
  return lines.length === 0 ? '' : `\n  ${title}:${lines.map((line) => `\n    ${printable(line)}`).join('')}`;
}

function firstLine(text: string): string {
  return printable(text.split('\n', 1)[0] as string).slice(0, 200);
}

/** What QEMU says, and what helps. */
const HINTS: readonly [RegExp, string][] = [
  [
    /cannot set up guest memory|Cannot allocate memory/i,
    'The host has not enough free memory for this VM: use less, --memory.',
  ],
  [
    /could not open '\/proc\/self\/fd\/.*Permission denied|could not load kernel/i,
    'QEMU runs as nobody when started by root: the kernel must be readable by all (chmod a+r).',
  ],
  [/KVM|kvm/, 'See what is wrong with KVM: ya-vm doctor. Without it: --accel tcg'],
  [/Failed to get .*lock/i, 'Another VM uses this disk.'],
];

function qemuHint({ exit, qemuMessages }: EndFacts): string | undefined {
  const text = qemuMessages.join('\n');
  const known = HINTS.find(([pattern]) => pattern.test(text));
  if (known) return known[1];
  return exit.signal === 9
    ? "Something killed it; the kernel's out-of-memory killer writes to dmesg."
    : undefined;
}
