/** The kernel's command line. Nothing is configured by it: only what the kernel must know before /init runs. */

/** Every word, and why it is there. */
const WORDS: readonly [word: string, why: string][] = [
  ['console=ttyS0', 'panics, and the agent when it has no port to speak on, go to the serial console'],
  [
    'quiet',
    'each character on the serial console costs an exit to QEMU: the boot log takes longer than the boot',
  ],
  ['panic=-1', 'restart at once after a panic; with -no-reboot that ends QEMU'],
  [
    'lsm=landlock,yama',
    'Debian’s kernels ask AppArmor, Tomoyo and BPF at every system call, and nobody loads a policy here: 5 % of a start. What programs use by themselves stays',
  ],
  ['cryptomgr.notests', 'self-tests of ciphers take 0.2 to 0.3 s of a 1.5 s boot under emulation'],
];

/** Under emulation only: no instruction of the guest is speculated as itself, so its kernel protects itself from nothing. */
const EMULATED: readonly [word: string, why: string][] = [
  [
    'mitigations=off',
    'indirect jumps by way of thunks cost 6 % of the time in which a command starts and ends',
  ],
  [
    'clearcpuid=141',
    // X86_FEATURE_CX16, 4 * 32 + 13: by number, since older kernels know no names. Only the kernel is told that there is none;
    // programs find it by CPUID as before, for without it a CPU is no x86-64-v2, and images built for that do not start.
    'QEMU before 8.0 computes cmpxchg16b’s flags from stale state (docs/initramfs.md): a pointer becomes EFLAGS in the kernel’s allocator',
  ],
];

/**
 * @param accel What runs the guest.
 * @param tscKhz Frequency of the emulated time-stamp counter in kHz: saves 0.2 s of measuring it, which under emulation
 * can fail outright. Not given under KVM, where kvm-clock tells it.
 * @param extra For tests and debugging; the last of two contradictory words wins.
 */
export function kernelWords(
  accel: 'kvm' | 'tcg',
  tscKhz: number | undefined,
  extra: readonly string[] = [],
): string {
  const words = accel === 'tcg' ? [...WORDS, ...EMULATED] : WORDS;
  const tsc = tscKhz === undefined ? [] : [`tsc_early_khz=${tscKhz}`];
  return [...words.map(([word]) => word), ...tsc, ...extra].join(' ');
}

/**
 * Frequency of this host's time-stamp counter, which QEMU's emulated one runs at, in kHz; undefined when it is not
 * known for sure, and the guest then measures. The current frequency of a core is not it: it changes with load.
 *
 * @param cpuinfo Text of /proc/cpuinfo.
 * @param baseFrequency Text of cpu0/cpufreq/base_frequency (kHz), when there is such a file.
 * @param scales Whether the core's frequency changes (there is a cpufreq folder): else "cpu MHz" is the counter's.
 */
export function hostTscKhz(
  cpuinfo: string,
  baseFrequency: string | undefined,
  scales: boolean,
): number | undefined {
  // Without these the counter follows the core's frequency or stops with it, and no number is right.
  const [, flags = ''] = cpuinfo.match(/^flags\s*:(.*)$/m) ?? [];
  if (!/\bconstant_tsc\b/.test(flags) || !/\bnonstop_tsc\b/.test(flags)) return undefined;
  const [, nominal] = cpuinfo.match(/^model name\s*:.*@ ?([\d.]+) ?GHz/m) ?? [];
  const [, current] = cpuinfo.match(/^cpu MHz\s*:\s*([\d.]+)/m) ?? [];
  const khz = scales
    ? Number(baseFrequency) || Math.round(Number(nominal) * 1e6)
    : Math.round(Number(current) * 1000);
  return khz >= 100_000 && khz <= 10_000_000 ? khz : undefined;
}
