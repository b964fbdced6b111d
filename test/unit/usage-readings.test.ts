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
import {
  MemoryPeak,
  parseCpu,
  parseMemory,
  readProcessUsage,
  readProcessUsageWith,
} from '../../host/usage/process.ts';
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

t.test('memory is what a process has written itself; its program is shared', async (t) => {
  const child = spawn(process.execPath, [
    '-e',
    `let block = Buffer.alloc(96 * ${MIB}, 1); console.log('up'); process.stdin.once('data', () => { block = null; gc(); console.log('down'); });`,
  ]);
  t.teardown(() => child.kill('SIGKILL'));
  await new Promise((resolve) => child.stdout.once('data', resolve));
  const pid = child.pid as number;
  const rollup = execFileSync('cat', [`/proc/${pid}/smaps_rollup`], { encoding: 'latin1' });
  const kilobytes = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(rollup)?.[1]);
  const [independent, whole] = [kilobytes('Anonymous') * 1024, kilobytes('Rss') * 1024];
  const usage = readProcessUsage(pid);
  t.ok(usage && usage.memory > 96 * MIB, 'the block is in it');
  t.ok(
    Math.abs((usage?.memory ?? 0) - independent) <= 0.02 * independent,
    `${usage?.memory} against ${independent}`,
  );
  const sum = (usage?.memory ?? 0) + (usage?.shared ?? 0);
  t.ok(usage && usage.shared > 0 && Math.abs(sum - whole) <= 0.02 * whole, `${sum} of ${whole}`);
  t.ok((usage?.residentPeak ?? 0) >= sum);
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
  const nothing = { memory: 0, shared: 0, residentPeak: 0, huge: 0 };
  t.same(parseMemory('Name:\tx\nState:\tZ (zombie)\n'), nothing);
});

/** Part of /proc/PID/status, MiB. */
function statusOf(figures: Record<string, number>): string {
  const lines = Object.entries(figures).map(([name, mebibytes]) => `${name}:\t${mebibytes * 1024} kB\n`);
  return `Name:\tqemu-system-x86\nState:\tS (sleeping)\n${lines.join('')}Threads:\t5\n`;
}

t.test("whose memory it is: anonymous and huge pages the VM's, files everybody's", async (t) => {
  const booted = { VmHWM: 300, VmRSS: 240, RssAnon: 200, RssFile: 40, RssShmem: 0, HugetlbPages: 0 };
  t.same(parseMemory(statusOf(booted)), {
    ...{ memory: 200 * MIB, shared: 40 * MIB, residentPeak: 300 * MIB, huge: 0 },
  });
  const folders = { VmHWM: 250, VmRSS: 240, RssAnon: 20, RssFile: 40, RssShmem: 180 };
  t.match(parseMemory(statusOf(folders)), { memory: 200 * MIB, shared: 40 * MIB }, 'a memfd is its own');
  t.match(
    parseMemory(statusOf(folders), 'template'),
    { memory: 20 * MIB, shared: 220 * MIB },
    'a template on a tmpfs is not',
  );
  const huge = { VmHWM: 60, VmRSS: 60, RssAnon: 20, RssFile: 40, RssShmem: 0, HugetlbPages: 512 };
  t.match(parseMemory(statusOf(huge)), { memory: 532 * MIB, residentPeak: 60 * MIB, huge: 512 * MIB });
});

t.test('the peak of what is its own', async (t) => {
  const reading = (RssAnon: number, RssFile: number, VmHWM: number, HugetlbPages = 0) =>
    parseMemory(statusOf({ VmHWM, RssAnon, RssFile, HugetlbPages }));
  const booted = new MemoryPeak('boot');
  t.equal(booted.take(reading(100, 40, 140)), 100 * MIB);
  t.equal(
    booted.take(reading(90, 40, 240)),
    200 * MIB,
    'what was between two looks, by the peak of the whole',
  );
  t.equal(booted.take(reading(90, 10, 240)), 200 * MIB, 'files that went are not taken for its own');
  t.equal(booted.take(reading(0, 0, 0)), 200 * MIB, 'a zombie');
  t.equal(new MemoryPeak('boot').take(reading(20, 40, 60, 512)), 532 * MIB, 'huge pages are in no peak');
  const restored = new MemoryPeak('template');
  t.equal(restored.take(reading(20, 60, 80)), 20 * MIB);
  t.equal(restored.take(reading(50, 30, 90)), 50 * MIB, 'pages of the template that became its own');
  t.equal(restored.take(reading(40, 20, 90)), 50 * MIB, 'only what was seen');
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
