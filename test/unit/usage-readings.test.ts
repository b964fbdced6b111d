/** What /proc and the file system say, against readings made by other means. */
import { execFileSync, spawn } from 'node:child_process';
import {
  linkSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { allocatedIn, FolderGauge } from '../../host/usage/allocated.ts';
import { parseCpu, parseMemory, readProcessUsage, readProcessUsageWith } from '../../host/usage/process.ts';
import type { Owner } from '../lib/vm.ts';

const MIB = 1024 ** 2;

function folder(t: Owner): string {
  const path = mkdtempSync('/var/tmp/yavm-usage-');
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

t.test('CPU time of a process is what the kernel bills its parent, within 2 %', async (t) => {
  // Two threads of one process; GNU time reads rusage, this test /proc.
  const script = `
    const { Worker } = require('node:worker_threads');
    const burn = 'const end = process.cpuUsage().user + 4e5; while (process.cpuUsage().user < end);';
    const worker = new Worker(burn, { eval: true });
    worker.on('exit', () => {
      const { userCPUTime, systemCPUTime } = process.resourceUsage();
      console.log(JSON.stringify([userCPUTime + systemCPUTime, process.pid]));
      process.stdin.resume();
    });`;
  const child = spawn(process.execPath, ['-e', script], { stdio: ['pipe', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  const [line] = (
    await new Promise<string>((resolve) => child.stdout.on('data', (chunk) => resolve(`${chunk}`)))
  ).split('\n');
  const [microseconds, pid] = JSON.parse(line as string) as [number, number];
  t.equal(pid, child.pid);
  const usage = readProcessUsage(pid);
  const cpu = usage?.cpuSeconds ?? 0;
  // The clock of /proc ticks each 10 ms.
  t.ok(
    Math.abs(cpu - microseconds / 1e6) <= Math.max(0.02 * cpu, 0.02),
    `${cpu} against ${microseconds / 1e6}`,
  );
  t.ok(cpu > 0.3, 'the thread that has ended is counted');
});

t.test('memory is what is resident, and its peak stays', async (t) => {
  const child = spawn(process.execPath, [
    '-e',
    `let block = Buffer.alloc(96 * ${MIB}, 1); console.log('up'); process.stdin.once('data', () => { block = null; gc(); console.log('down'); });`,
  ]);
  t.teardown(() => child.kill('SIGKILL'));
  await new Promise((resolve) => child.stdout.once('data', resolve));
  const pid = child.pid as number;
  const rollup = execFileSync('cat', [`/proc/${pid}/smaps_rollup`], { encoding: 'latin1' });
  const independent = Number(/^Rss:\s+(\d+) kB$/m.exec(rollup)?.[1]) * 1024;
  const usage = readProcessUsage(pid);
  t.ok(usage && usage.memory > 96 * MIB, 'the block is in it');
  t.ok(
    Math.abs((usage?.memory ?? 0) - independent) <= 0.02 * independent,
    `${usage?.memory} against ${independent}`,
  );
  t.ok((usage?.memoryPeak ?? 0) >= (usage?.memory ?? 1));
});

t.test('a process that is gone has no usage', async (t) => {
  t.equal(readProcessUsage(2 ** 22 + 1), null);
  t.equal(
    readProcessUsageWith(() => 'nonsense'),
    null,
  );
});

t.test('the texts of /proc: names with spaces and parentheses, a zombie without memory', async (t) => {
  t.equal(parseCpu(`77 (a) b) c) S 1 77 77 0 -1 4194560 1 0 0 0 250 50 9 9 20 0 1 0 5 1 1`), 3);
  t.throws(() => parseCpu('77 (x) S 1'), /not the text/);
  t.same(parseMemory('Name:\tx\nVmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\n'), {
    memory: MIB,
    memoryPeak: 2 * MIB,
  });
  t.same(parseMemory('Name:\tx\nState:\tZ (zombie)\n'), { memory: 0, memoryPeak: 0 });
});

t.test('storage counts allocated blocks: what du says, not file sizes', async (t) => {
  const top = folder(t);
  mkdirSync(join(top, 'a/b'), { recursive: true });
  writeFileSync(join(top, 'a/full'), Buffer.alloc(5 * MIB, 7));
  openSync(join(top, 'a/b/sparse'), 'w');
  truncateSync(join(top, 'a/b/sparse'), 500 * MIB);
  linkSync(join(top, 'a/full'), join(top, 'a/b/again'));
  symlinkSync('/', join(top, 'a/root'));
  execFileSync('sync', ['-f', top]);
  const bytes = await allocatedIn(top);
  const [du] = execFileSync('du', ['-s', '-B1', top], { encoding: 'latin1' }).split('\t');
  t.equal(bytes, Number(du));
  t.ok(bytes >= 5 * MIB && bytes < 6 * MIB, `${bytes}: once, and without the holes`);
});

t.test('a gauge measures in the background, and what is removed meanwhile is no error', async (t) => {
  const top = folder(t);
  writeFileSync(join(top, 'file'), Buffer.alloc(MIB, 1));
  execFileSync('sync', ['-f', top]);
  const gauge = new FolderGauge(top);
  t.equal(gauge.bytes, 0, 'nothing is known yet');
  await gauge.refresh();
  t.ok(gauge.bytes >= MIB);
  rmSync(top, { recursive: true });
  await gauge.refresh();
  t.equal(await gauge.refresh().then(() => gauge.bytes), 0);
  t.equal(await allocatedIn(top, 0), 0, 'bounded');
});
