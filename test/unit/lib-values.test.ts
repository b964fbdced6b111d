import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { formatDuration, parseDuration } from '../../host/lib/duration.ts';
import { cacheFolder, runBase } from '../../host/lib/paths.ts';
import { isAlive, parseStartTime, startTimeOf } from '../../host/lib/process.ts';
import { type Progress, ProgressMeter } from '../../host/lib/progress.ts';
import { formatSize, parseSize } from '../../host/lib/size.ts';

const KIB = 1024;
const MIB = KIB * 1024;
const GIB = MIB * 1024;

t.test('sizes are read with binary letters and SI spellings', async (t) => {
  const table: [string, number][] = [
    ['4096', 4096],
    ['1', 1],
    ['512M', 512 * MIB],
    ['512m', 512 * MIB],
    ['2G', 2 * GIB],
    ['1.5GiB', 1.5 * GIB],
    ['.5G', GIB / 2],
    ['10GB', 10e9],
    ['10.7 GB', 10.7e9],
    ['3kb', 3000],
    [' 7 KiB ', 7 * KIB],
    ['1T', 1024 * GIB],
    ['100B', 100],
  ];
  for (const [text, bytes] of table) t.equal(parseSize(text), bytes, text);
});

t.test('what is no size is refused with what to write instead', async (t) => {
  for (const text of [
    '',
    'M',
    '12X',
    '1e9',
    '-5M',
    '0',
    '0.1',
    '1.2.3G',
    '9999999T',
    '5 M B',
    'NaN',
    '0x10',
  ]) {
    t.throws(() => parseSize(text), { code: 'YAVM_E_USAGE' }, JSON.stringify(text));
  }
  t.match(
    thrown(() => parseSize('12X')),
    { message: "'12X' is not a size", hint: /512M/ },
  );
});

t.test('sizes are shown with the figures that matter', async (t) => {
  const table: [number, string][] = [
    [0, '0 B'],
    [1023, '1023 B'],
    [1024, '1 KiB'],
    [512 * MIB, '512 MiB'],
    [1.5 * GIB, '1.5 GiB'],
    [1023.7 * KIB, '1 MiB'],
    [123.4 * MIB, '123 MiB'],
    [12.34 * MIB, '12.3 MiB'],
  ];
  for (const [bytes, text] of table) t.equal(formatSize(bytes), text, text);
});

t.test('durations are read with units, and as seconds without', async (t) => {
  const table: [string, number][] = [
    ['30s', 30_000],
    ['45', 45_000],
    ['0.5', 500],
    ['250ms', 250],
    ['1m30s', 90_000],
    ['2h', 7_200_000],
    ['1.5m', 90_000],
    ['1d', 86_400_000],
  ];
  for (const [text, milliseconds] of table) t.equal(parseDuration(text), milliseconds, text);
  for (const text of ['', 's', '5x', '1m 30s', '-1s', '0', '0s', '1e3', '400d', '5ss', 'infinite']) {
    t.throws(() => parseDuration(text), { code: 'YAVM_E_USAGE' }, JSON.stringify(text));
  }
});

t.test('durations are shown with the figures that matter', async (t) => {
  const table: [number, string][] = [
    [0, '0 ms'],
    [85.4, '85 ms'],
    [999.4, '999 ms'],
    [999.6, '1.00 s'],
    [1240, '1.24 s'],
    [12_340, '12.3 s'],
    [59_996, '1 min'],
    [125_000, '2 min 5 s'],
    [12_000_000, '3 h 20 min'],
    [90_000_000, '1 d 1 h'],
  ];
  for (const [milliseconds, text] of table) t.equal(formatDuration(milliseconds), text, text);
});

t.test(
  'run folders are under XDG_RUNTIME_DIR when that is a folder, else in the temporary folder',
  async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'yavm-paths-'));
    t.teardown(() => rmSync(folder, { recursive: true }));
    t.equal(runBase({ XDG_RUNTIME_DIR: folder }, 1000), join(folder, 'ya-vm'));
    t.equal(runBase({ XDG_RUNTIME_DIR: 'relative' }, 1000), join(tmpdir(), 'ya-vm-1000'));
    t.equal(runBase({ XDG_RUNTIME_DIR: '/does/not/exist' }, 1000), join(tmpdir(), 'ya-vm-1000'));
    t.equal(runBase({}, 7), join(tmpdir(), 'ya-vm-7'));
  },
);

t.test('the cache is where XDG says, else in the home', async (t) => {
  t.equal(cacheFolder({ XDG_CACHE_HOME: '/c', HOME: '/h' }, 1), '/c/ya-vm');
  t.equal(cacheFolder({ XDG_CACHE_HOME: 'c', HOME: '/h' }, 1), '/h/.cache/ya-vm');
  t.equal(cacheFolder({}, 1), join(tmpdir(), 'ya-vm-cache-1'));
});

t.test('a process is told from a later one with its pid by its start time', async (t) => {
  const startTime = startTimeOf(process.pid);
  t.ok(startTime !== null && startTime > 0);
  t.equal(isAlive({ pid: process.pid, startTime: startTime as number }), true);
  t.equal(isAlive({ pid: process.pid, startTime: (startTime as number) - 1 }), false);
  // Beyond the largest pid that Linux gives.
  t.equal(startTimeOf(5_000_000), null);
});

t.test('a command name with spaces and parentheses does not shift the start time', async (t) => {
  const fields = Array.from({ length: 30 }, (_, index) => index + 4).join(' ');
  t.equal(parseStartTime(`42 (a b) c (d) S ${fields}`), 22);
  t.equal(parseStartTime(`42 (zombie) Z ${fields}`), null);
  t.equal(parseStartTime('nonsense'), null);
});

t.test('progress reports at a bounded rate, and its end', async (t) => {
  let now = 0;
  const reports: Progress[] = [];
  const meter = new ProgressMeter((progress) => reports.push(progress), { total: 1000, now: () => now });
  for (let step = 0; step < 100; step++) {
    now += 10;
    meter.add(10);
  }
  t.equal(reports.length, 10, 'one in 100 ms');
  meter.finish();
  t.same(reports.at(-1), { done: 1000, total: 1000, rate: 1000 });
});

function thrown(action: () => unknown): unknown {
  try {
    action();
  } catch (error) {
    return error;
  }
  return null;
}
