/**
 * `make bench`: runs the benches (all, or those named on the command line), prints a table and writes
 * build/out/bench.json. What is over its limit is marked, but only a bench that cannot run makes this fail.
 */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { cpus, loadavg, release } from 'node:os';
import { join } from 'node:path';
import { boot } from './boot.ts';
import { bus } from './bus.ts';
import { cable } from './cable.ts';
import { container } from './container.ts';
import { type Bench, type BenchContext, OUT } from './context.ts';
import { distStart } from './dist-start.ts';
import { download } from './download.ts';
import { exeUnitExec } from './exe-unit-exec.ts';
import { exeUnitOutput } from './exe-unit-output.ts';
import { exeUnitSpool } from './exe-unit-spool.ts';
import { exeUnitStart } from './exe-unit-start.ts';
import { type BenchResult, table } from './figure.ts';
import { filter } from './filter.ts';
import { hash } from './hash.ts';
import { hostMemory } from './host-memory.ts';
import { imageBuild } from './image-build.ts';
import { latency } from './latency.ts';
import { line } from './line.ts';
import { outbound } from './outbound.ts';
import { relay } from './relay.ts';
import { sizes } from './sizes.ts';
import { template } from './template.ts';
import { throughput } from './throughput.ts';
import { vpn } from './vpn.ts';

const BENCHES: Bench[] = [
  ...[sizes, boot, template, latency, throughput, hostMemory, hash, download, line, container, imageBuild],
  ...[exeUnitStart, exeUnitExec, exeUnitSpool, exeUnitOutput, cable, bus, relay, filter, vpn, outbound],
  distStart,
];

/** Average load beyond which something else disturbs the figures. */
const BUSY = 0.7;

const accel = process.env.YAVM_TEST_ACCEL === 'kvm' ? 'kvm' : 'tcg';
const words = process.argv.slice(2);
const unknown = words.filter((word) => !BENCHES.some((bench) => bench.name === word));
if (unknown.length > 0) {
  throw new Error(`no bench "${unknown[0]}"; there are ${BENCHES.map((bench) => bench.name).join(', ')}`);
}

const [load] = loadavg() as [number];
if (load > BUSY) console.error(`this machine is busy (load ${load.toFixed(1)}): the figures will be noisy`);
const results: BenchResult[] = [];
for (const bench of BENCHES) {
  if (words.length > 0 && !words.includes(bench.name)) continue;
  console.error(`== ${bench.name}: ${bench.what}`);
  results.push(await measure(bench, { accel, say: (line) => console.error(`   ${line}`) }));
}
console.log(`\n${table(results).join('\n')}`);
writeFileSync(join(OUT, 'bench.json'), `${JSON.stringify({ machine: machine(), results }, null, 2)}\n`);
// What a bench leaves open (a socket of a killed VM) must not hold the end back.
process.exit(results.some((result) => result.failure) ? 1 : 0);

async function measure(bench: Bench, context: BenchContext): Promise<BenchResult> {
  try {
    return { bench: bench.name, figures: await bench.run(context) };
  } catch (error) {
    console.error(error);
    return {
      bench: bench.name,
      figures: [],
      failure: error instanceof Error ? error.message : String(error),
    };
  }
}

/** What the figures depend on. */
function machine(): Record<string, unknown> {
  return {
    cpu: cpus()[0]?.model,
    cpus: cpus().length,
    kernel: release(),
    qemu: execFileSync('qemu-system-x86_64', ['--version'], { encoding: 'utf8' }).split('\n')[0],
    node: process.version,
    load: { before: load, after: loadavg()[0] },
    accel,
    date: new Date().toISOString(),
  };
}
