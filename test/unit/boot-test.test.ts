import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { type FinalResults, Parser } from 'tap-parser';
import { ConsoleFile } from '../../host/boot-test/console-file.ts';
import { ExpectedTexts } from '../../host/boot-test/expected.ts';
import { isInitramfs } from '../../host/boot-test/kind.ts';
import { judgeError } from '../../host/boot-test/outcome.ts';
import { REPORTERS } from '../../host/boot-test/report.ts';
import type { BootTestResult } from '../../host/boot-test/result.ts';
import { bootTest } from '../../host/cli/boot-test.ts';
import type { BootVm } from '../../host/cli/boot-test-image.ts';
import { runProgram } from '../../host/cli/program.ts';
import { deferred } from '../../host/lib/deferred.ts';
import { type ErrorCode, YavmError } from '../../host/lib/errors.ts';
import type { CommandResult, CommandSpec, VmSpec } from '../../host/runtime/types.ts';
import { ciFiles } from '../lib/ci-page.ts';
import { testContext } from '../lib/cli.ts';
import { writeAssets } from '../lib/cli-vm.ts';

type Test = { testdir(): string };

/** A VM whose command writes and ends as told; its console says what a kernel would. */
function fakeBoot(folder: string, told: Partial<CommandResult> & { stdout?: string; hangs?: boolean } = {}) {
  const specs: VmSpec[] = [];
  const commands: CommandSpec[] = [];
  const ends: string[] = [];
  const killed = deferred<never>();
  killed.promise.catch(() => {});
  const boot: BootVm = async (_context, spec, hooks) => {
    specs.push(spec);
    writeFileSync(join(folder, 'console.log'), '[    0.1] Linux version\nKernel says this\n');
    hooks.onVm({ folder, consoleLines: () => [] });
    hooks.onPhase({ name: 'kernel', milliseconds: 5 });
    return {
      accel: 'tcg',
      async run(command, { stdout }) {
        commands.push(command);
        await stdout(Buffer.from(told.stdout ?? ''));
        const result: CommandResult = {
          ...{ exitCode: 0, outOfMemory: false, complete: true, memoryPeak: 0 },
          ...{ totals: {}, cpu: { user: 0, system: 0 } },
          ...told,
        };
        return { result: told.hangs ? killed.promise : Promise.resolve(result) };
      },
      stop: async () => void ends.push('stop'),
      async kill() {
        ends.push('kill');
        killed.reject(new YavmError('YAVM_E_VM_STOPPED', 'the VM was killed'));
      },
    };
  };
  return { boot, specs, commands, ends };
}

function prepare(t: Test) {
  const folder = t.testdir();
  const context = testContext();
  context.env.YAVM_ASSETS = writeAssets(folder);
  return { context, folder, image: join(folder, 'demo.gvmi') };
}

const GIVEN = { accel: 'tcg', cpus: 1 };

t.test('expected texts, also across pieces', async (t) => {
  const expected = new ExpectedTexts(['ready', 'é', 'never']);
  for (const byte of Buffer.from('not rea, but ready: é')) expected.push(Uint8Array.of(byte));
  t.same(expected.missing, ['never']);
});

t.test('which files are an initramfs', async (t) => {
  const content = {
    cpio: '070701000',
    'a.cpio.zst': '(\xb5',
    'initrd.img-6.1': 'x',
    'b.tar.gz': 'x',
    'c.gvmi': 'hsqs',
  };
  const folder = t.testdir({ ...content, 'initramfs.gvmi': 'hsqs' });
  const found = [...Object.keys(content), 'initramfs.gvmi', 'none'].filter((name) =>
    isInitramfs(join(folder, name)),
  );
  t.same(found, ['cpio', 'a.cpio.zst', 'initrd.img-6.1']);
});

t.test("a host's errors are told from an image's", async (t) => {
  const of = (code: ErrorCode) => judgeError(new YavmError(code, 'x')).outcome;
  t.equal(of('YAVM_E_QEMU_MISSING'), 'error');
  t.equal(of('YAVM_E_GUEST_PANIC'), 'failed');
  t.equal(judgeError(new Error('a bug')).outcome, 'error');
});

t.test('a console is read although its file is gone, and a long one has its end', async (t) => {
  const folder = t.testdir({ 'console.log': 'x'.repeat(1024 * 1024) });
  const file = new ConsoleFile();
  t.equal(file.read(), '');
  file.open({ folder, consoleLines: () => ['the end'] });
  t.match(file.read().slice(-20), /\[…\]\nthe end$/);
  file.close();
  file.open({ folder: join(folder, 'none'), consoleLines: () => ['in memory'] });
  t.equal(file.read(), 'in memory');
});

t.test('an image passes: its command, its expected text', async (t) => {
  const { context, folder, image } = prepare(t);
  const { boot, specs, commands, ends } = fakeBoot(folder, { stdout: 'it is ready\n' });
  const given = { ...GIVEN, expect: ['ready'], append: ['a=b'], env: ['N=1'] };
  t.equal(await bootTest(context, given, [image, 'job', '-x'], ['job', '-x'], boot), 0);
  t.match(commands[0], { argv: ['job', '-x'], env: ['PATH=/bin', 'FROM=image', 'N=1'] });
  t.match(specs[0], { layers: [image], memoryMiB: 512, kernelWords: ['a=b'], start: 'cold' });
  t.equal(ends[0], 'stop');
  const results = parseTap(context.out());
  t.match(results, { ok: true, count: 1, pass: 1 });
});

t.test('what fails is quoted and kept, and the report is a file', async (t) => {
  const { context, folder, image } = prepare(t);
  const { boot } = fakeBoot(folder, { stdout: 'oh no\n', exitCode: 3 });
  const [report, keep] = [join(folder, 'r.xml'), join(folder, 'kept')];
  t.equal(await bootTest(context, { ...GIVEN, expect: ['fine'], report, keep }, [image], [], boot), 1);
  t.match(
    context.out(),
    /failed: .*demo.gvmi[\s\S]*exit code 3\n.*does not have "fine"[\s\S]*oh no[\s\S]*0 of 1 passed/,
  );
  const xml = readFileSync(report, 'utf8');
  t.match(xml, /tests="1" failures="1" errors="0"/);
  t.match(
    xml,
    /<failure message="the command failed: exit code 3; the output does not have &quot;fine&quot;">/,
  );
  const kept = join(keep, '1-demo.gvmi');
  t.equal(readFileSync(join(kept, 'stdout.txt'), 'utf8'), 'oh no\n');
  t.match(readFileSync(join(kept, 'console.log'), 'utf8'), /Kernel says this/);
  t.match(JSON.parse(readFileSync(join(kept, 'result.json'), 'utf8')), {
    exitCode: 3,
    phases: [{ name: 'kernel' }],
  });
});

t.test('--console looks there, and lets the kernel speak', async (t) => {
  const { context, folder, image } = prepare(t);
  const { boot, specs } = fakeBoot(folder, { stdout: 'only in the output' });
  const given = { ...GIVEN, console: true, expect: ['Kernel says', 'only in the output'] };
  t.equal(await bootTest(context, given, [image], [], boot), 1);
  t.match(specs[0]?.kernelWords, ['loglevel=7']);
  t.match(context.out(), /message: "the console did not say \\"only in the output\\""/);
});

t.test('a time limit, and a VM that does not come up', async (t) => {
  const { context, folder, image } = prepare(t);
  const hangs = fakeBoot(folder, { hangs: true });
  t.equal(await bootTest(context, { ...GIVEN, timeout: 20 }, [image], [], hangs.boot), 1);
  t.equal(hangs.ends[0], 'kill');
  t.match(context.out(), /it did not end within 20 ms/);
  const panics: BootVm = async () => {
    throw new YavmError('YAVM_E_GUEST_PANIC', 'the kernel panicked');
  };
  t.equal(await bootTest(context, GIVEN, [image], [], panics), 1);
  const lacks: BootVm = async () => {
    throw new YavmError('YAVM_E_QEMU_MISSING', 'no QEMU');
  };
  const second = testContext();
  second.env = context.env;
  t.equal(await bootTest(second, GIVEN, [image, image], [], lacks), 125);
  t.match(second.out(), /not ok 1[\s\S]*Bail out! no QEMU/);
  t.notMatch(second.out(), /not ok 2/);
});

t.test('a foreign initramfs needs a text to be judged by', async (t) => {
  const { context, folder } = prepare(t);
  const file = join(folder, 'rootfs.cpio');
  writeFileSync(file, '070701');
  t.equal(await bootTest(context, GIVEN, [file], []), 1);
  t.match(context.out(), /give --expect/);
});

t.test('a wrong command line is 2, for each of its options', async (t) => {
  for (const words of [
    [],
    ['--format', 'html', 'x'],
    ['--kernel', 'k', 'x'],
    ['--accel', 'fast', 'x'],
    ['--no-such', 'x'],
  ]) {
    const context = testContext();
    t.equal(await runProgram(['boot-test', ...words], context), 2, words.join(' '));
    t.match(context.err(), /YAVM_E_USAGE/);
  }
  const { context, folder } = prepare(t);
  const file = join(folder, 'absent.gvmi');
  t.equal(await runProgram(['boot-test', file, '--format', 'plain', '--', 'a', '--b'], context), 1);
  t.match(
    context.out(),
    /failed: .*absent.gvmi[\s\S]*0 of 1 passed/,
    'the words of the command are no files',
  );
});

const HARD: BootTestResult = {
  name: 'a # <b> "c" \\ \u0007\n',
  ...{
    outcome: 'failed',
    accel: 'kvm',
    milliseconds: 1500,
    phases: [{ name: 'file systems', milliseconds: 3 }],
  },
  ...{ command: ['x'], exitCode: 1, failures: ['one\ntwo', ']]> & \u0000 \ud800'], kept: '/k' },
  output: { stdout: '', stderr: '' },
  ...{ console: '', quoted: { console: ['...', '---', 'ok 1'], output: ['<&>'] } },
};

t.test('reports with what would break them', async (t) => {
  const { tap, junit } = REPORTERS;
  const results = parseTap(
    tap.begin(2) + tap.result(HARD, 1) + tap.result({ ...HARD, outcome: 'passed' }, 2),
  );
  t.match(results, { ok: false, count: 2, pass: 1, fail: 1 });
  const failure = results.failures[0] as { diag?: unknown };
  t.match(failure.diag, { exit_code: 1, accel: 'kvm', kept: '/k' });
  const xml = junit.end([HARD, { ...HARD, outcome: 'error' }, { ...HARD, outcome: 'passed' }]);
  t.match(xml, /tests="3" failures="1" errors="1" time="4.500"/);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: what XML does not allow is looked for
  t.notMatch(xml, /[\u0000-\u0008\u000b-\u001f]/);
  const checked = spawnSync('xmllint', ['--noout', '-'], { input: xml, encoding: 'utf8' });
  if (checked.error) t.comment('no xmllint here');
  else t.equal(checked.status, 0, checked.stderr);
});

function parseTap(text: string): FinalResults {
  const parser = new Parser();
  parser.end(text);
  return parser.results as FinalResults;
}

t.test("docs/ci.md: every step is shell, and every ya-vm line one of ya-vm's", async (t) => {
  const files = ciFiles();
  t.equal(files.length, 4);
  for (const { lines } of files) {
    const { status, stderr } = spawnSync('bash', ['-n'], { input: lines.join('\n'), encoding: 'utf8' });
    t.equal(status, 0, stderr);
    const ours = lines.filter((line) => line.startsWith('ya-vm '));
    t.equal(ours.length, 3);
    for (const line of ours) {
      const [, name = ''] = line.split(' ');
      const context = testContext();
      await runProgram(
        line.includes('image build') ? ['image', 'build', '--help'] : [name, '--help'],
        context,
      );
      for (const option of line.match(/--[a-z-]+/g) ?? []) t.match(context.out(), option, line);
    }
  }
});
