/** Signals while a template is made end QEMU, and leave nothing of it; a provider's commands make that of its activities. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { sleep } from '../../host/lib/deadline.ts';
import { privateEnvironment } from '../lib/vm.ts';
import { ACCEL, CliProcess } from '../lib/ya-vm.ts';

/** For a boot under TCG on a busy machine, milliseconds. */
const DEADLINE = 120_000;
t.setTimeout(10 * DEADLINE);

/** Folders of templates and of runs that are this test's alone. */
function setting(t: Test) {
  const templates = mkdtempSync('/tmp/yavm-');
  t.teardown(() => rmSync(templates, { recursive: true, force: true }));
  const accel = process.env.YAVM_TEST_ACCEL ?? 'tcg';
  const own = privateEnvironment(t);
  const env = {
    ...own,
    YA_VM_TEMPLATES: templates,
    YA_VM_START: 'auto',
    YA_VM_ACCEL: accel,
  };
  return { templates, env, runs: join(own.XDG_RUNTIME_DIR as string, 'ya-vm') };
}

const building = (folder: string) => readdirSync(folder).filter((name) => /^\.[0-9a-f]{32}$/.test(name));
const recordsOf = (runs: string) =>
  existsSync(runs) ? readdirSync(runs).filter((name) => existsSync(join(runs, name, 'vm.json'))) : [];

/** Waits until a QEMU is at it. */
async function underWay(child: CliProcess, templates: string, runs: string): Promise<void> {
  const end = performance.now() + DEADLINE;
  while (building(templates).length === 0 || recordsOf(runs).length === 0) {
    if (performance.now() > end || child.child.exitCode !== null)
      throw new Error(`no template is made: ${child.stderr}`);
    await sleep(20);
  }
}

const COMMANDS: [string, string[], NodeJS.Signals, number][] = [
  ['template build', ['template', 'build', ...ACCEL, '-m', '256M'], 'SIGINT', 130],
  ['template build', ['template', 'build', ...ACCEL, '-m', '256M'], 'SIGTERM', 143],
  ['run, that makes one', ['run', ...ACCEL, '-m', '256M', '--', 'true'], 'SIGINT', 130],
  ['run, that makes one', ['run', ...ACCEL, '-m', '256M', '--', 'true'], 'SIGTERM', 143],
  ["a provider's test", ['test'], 'SIGTERM', 143],
];

for (const [what, words, signal, code] of COMMANDS) {
  t.test(`${what}: ${signal}`, async (t) => {
    const { templates, env, runs } = setting(t);
    const child = new CliProcess(words, { env, deadline: DEADLINE });
    await underWay(child, templates, runs);
    child.kill(signal);
    const ended = await child.ended();
    t.equal(ended.code, code, ended.stderr);
    t.match(ended.stderr, new RegExp(`ended by ${signal}`));
    t.strictSame(building(templates), [], 'nothing is left of the template');
    t.strictSame(recordsOf(runs), [], 'nor of the VM');
  });
}

t.test("a provider's test makes that of its activities, and offer-template again", async (t) => {
  const { templates, env } = setting(t);
  const data = t.testdir();
  const work = join(data, 'exe-unit', 'work');
  mkdirSync(work, { recursive: true });
  const profiles = { a: { cpu_threads: 2, mem_gib: 0.3, storage_gib: 9 } };
  writeFileSync(join(data, 'hardware.json'), JSON.stringify({ active: 'a', profiles }));
  const there = (...words: string[]) =>
    new CliProcess(words, { env, deadline: DEADLINE, through: ['env', '-C', work] }).ended();
  const tested = await there('test');
  t.equal(tested.code, 0, tested.stderr);
  const said = tested.stdout.toString();
  t.match(said, /ok: it went on from a template in \d+ ms, instead of booting, after \d+ ms for making it/);
  t.match(said, /ok: the template of activities, with 307 MiB and 2 CPUs: made in/);
  const shapes = async () => {
    const { stdout } = await there('template', 'list', '--json');
    return JSON.parse(stdout.toString()).map(({ memoryMiB }: { memoryMiB: number }) => memoryMiB);
  };
  t.strictSame((await shapes()).sort(), [256, 307]);
  await there('template', 'drop', '--all');
  const offer = await there('offer-template');
  t.equal(offer.code, 0, offer.stderr);
  t.ok(JSON.parse(offer.stdout.toString()).properties, 'one JSON text, and nothing else');
  t.strictSame(await shapes(), [307], 'nothing is booted for a verdict that is known');
  t.strictSame(building(templates), []);
});
