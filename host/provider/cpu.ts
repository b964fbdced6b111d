/** What an offer says about the CPU, from the text of /proc/cpuinfo. Names as in the spec's runtime-vm.md 1.5. Pure. */

export interface CpuFacts {
  vendor: string;
  brand: string;
  /** `Stepping 3 Family 6 Model 158`. */
  model: string;
  capabilities: string[];
}

/** All capabilities, in their order: CPUID leaf 1 ECX, leaf 1 EDX, leaf 7. */
const CAPABILITIES = [
  'sse3 pclmulqdq dtes64 monitor dscpl vmx smx eist tm2 ssse3 cnxtid fma cmpxchg16b pdcm pcid dca sse41 sse42',
  'x2apic movbe popcnt tsc_deadline aesni xsave osxsave avx f16c rdrand hypervisor',
  'fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 psn clfsh ds acpi mmx fxsr sse sse2 ss',
  'htt tm pbe',
  'fsgsbase adjust_msr bmi1 hle avx2 fdp smep bmi2 rep_movsb_stosb invpcid rtm rdtm deprecate_fpu_cs_ds mpx rdta',
  'rdseed adx smap clflushopt processor_trace sha sgx avx512f avx512dq avx512_ifma avx512pf avx512er avx512cd',
  'avx512bw avx512vl clwb prefetchwt1 umip pku ospke rdpid sgx_lc',
].flatMap((line) => line.split(' '));

/** Flags that Linux calls otherwise. Those that it does not show at all are never offered. */
const FLAG_OF: Readonly<Record<string, string>> = {
  sse3: 'pni',
  dscpl: 'ds_cpl',
  eist: 'est',
  cnxtid: 'cid',
  cmpxchg16b: 'cx16',
  sse41: 'sse4_1',
  sse42: 'sse4_2',
  tsc_deadline: 'tsc_deadline_timer',
  aesni: 'aes',
  // Linux uses XSAVE whenever it is there, which is what this bit says.
  osxsave: 'xsave',
  clfsh: 'clflush',
  htt: 'ht',
  ds: 'dts',
  adjust_msr: 'tsc_adjust',
  rep_movsb_stosb: 'erms',
  rdtm: 'cqm',
  rdta: 'rdt_a',
  sha: 'sha_ni',
  processor_trace: 'intel_pt',
  avx512_ifma: 'avx512ifma',
};

/** Of the first CPU. Fields that are not there are empty. */
export function parseCpuInfo(text: string): CpuFacts {
  const fields = new Map<string, string>();
  for (const line of text.split('\n')) {
    const [, name, value] = /^([^\t:]+?)\s*:\s*(.*)$/.exec(line) ?? [];
    if (name !== undefined && !fields.has(name)) fields.set(name, (value ?? '').trim());
  }
  const field = (name: string) => fields.get(name) ?? '';
  const flags = new Set(field('flags').split(/\s+/));
  return {
    vendor: field('vendor_id'),
    brand: field('model name'),
    model: `Stepping ${field('stepping')} Family ${field('cpu family')} Model ${field('model')}`,
    capabilities: CAPABILITIES.filter((name) => flags.has(FLAG_OF[name] ?? name)),
  };
}
