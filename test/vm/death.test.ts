/** Every way in which a VM, or the process that supervises it, comes to its end: named, in time, and nothing left behind. */
import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { sleep } from '../../host/lib/deadline.ts';
import { toError, type YavmError } from '../../host/lib/errors.ts';
import { startVm, type Vm, type VmSpec } from '../../host/runtime/index.ts';
import { roomFor, tookAtMost } from '../lib/in-time.ts';
import { findProcesses, findQemu, waitUntil } from '../lib/processes.ts';
import { Random } from '../lib/random.ts';
import { soak } from '../lib/scale.ts';
import { bootAssets, builtFile, commandSpec, privateEnvironment, startTestVm, vmSpec } from '../lib/vm.ts';
import { ACCEL, runCli, startCli } from '../lib/ya-vm.ts';

t.setTimeout(0);
const random = new Random();
t.comment(`seed ${random.seed} (YAVM_SEED)`);

/** What a death is told by, at the latest, milliseconds after it. */
const NEWS = 1000;
/** For a boot that comes to nothing, but says something first; on a slow machine, too. */
const BOOT = 15_000;

interface Death {
  name: string;
  code: string;
  /** First line of the error. */
  message: RegExp;
  /** What else the error holds. */
  evidence: RegExp;
  cause(vm: Vm): void;
}

const abort = (how: 'exception' | 'rejection' | 'panic') => (vm: Vm) => {
  vm.request({ op: 'abort', how }).catch(() => {});
};
const byTask = (command: string) => (vm: Vm) => {
  vm.run(commandSpec(['sh', '-c', command])).catch(() => {});
};

const DEATHS: Death[] = [
  {
    name: 'the kernel panics',
    code: 'YAVM_E_GUEST_PANIC',
    message: /^the guest's kernel panicked: sysrq triggered crash/,
    evidence: /the last lines of the console:\n.*Kernel panic - not syncing/s,
    cause: abort('panic'),
  },
  {
    name: "an exception ends the guest's agent",
    code: 'YAVM_E_AGENT_ABORT',
    message: /an error that nothing caught: uncaught exception: Error: thrown by an abort request/,
    evidence:
      /the agent's last words:\n.*thrown by an abort request\n +at .*the last lines of the console:\n.*thrown/s,
    cause: abort('exception'),
  },
  {
    name: 'a rejection that nobody handles ends it',
    code: 'YAVM_E_AGENT_ABORT',
    message: /an error that nothing caught: .*rejection.*: Error: rejected by an abort request/,
    evidence: /the agent's last words:\n.*\n +at abort/s,
    cause: abort('rejection'),
  },
  {
    name: 'QEMU is killed',
    code: 'YAVM_E_QEMU_DIED',
    message: /^QEMU ended by signal 9/,
    evidence: /./,
    cause: ({ id }) => process.kill(findQemu([id])[0] as number, 'SIGKILL'),
  },
  {
    name: 'QEMU ends with an error',
    code: 'YAVM_E_QEMU_DIED',
    message: /^QEMU ended (by signal 6|with code 1)/,
    evidence: /./,
    cause: ({ id }) => process.kill(findQemu([id])[0] as number, 'SIGABRT'),
  },
  {
    name: 'the task powers off',
    code: 'YAVM_E_GUEST_POWEROFF',
    message: /^the guest powered itself off/,
    evidence: /./,
    cause: byTask('poweroff -f'),
  },
  {
    name: 'the task restarts the machine',
    code: 'YAVM_E_GUEST_POWEROFF',
    message: /^the guest restarted itself/,
    evidence: /./,
    cause: byTask('reboot -f'),
  },
];

for (const { name, code, message, evidence, cause } of DEATHS) {
  t.test(`${name}: who waits learns it within a second`, async (t) => {
    const env = privateEnvironment(t);
    const vm = await startTestVm(t, { assets: bootAssets({ test: true }), root: { ram: 8e6 } }, { env });
    const command = await vm.run(commandSpec({ argv: ['sleep', '1000'], stdin: true }));
    const pending = failureOf(command.result);
    // It waits ten seconds for this disk.
    const unanswered = failureOf(vm.mount({ kind: 'disk', serial: 'none', path: '/mnt' }));
    const began = performance.now();
    cause(vm);
    const error = await pending;
    const milliseconds = performance.now() - began;
    tookAtMost(t, 'the news', milliseconds, NEWS);
    t.equal(error.code, code);
    t.match(error.message.split('\n', 1)[0], message);
    t.match(error.message, evidence);
    t.equal(await unanswered, error, 'the same for everything that waits');
    t.match(await vm.ended, { reason: 'failed', orderly: false });
    t.equal((await vm.ended).error, error);
    t.equal(await failureOf(vm.stats()), error, 'and for what is asked later');
    t.equal(vm.state, 'ended');
    t.strictSame(readdirSync(join(env.XDG_RUNTIME_DIR as string, 'ya-vm')), [], 'nothing is left');
  });
}

t.test(
  'a guest that stands still: each wait ends at its own deadline, and the VM can be killed',
  async (t) => {
    const vm = await startTestVm(t, { root: { ram: 8e6 } });
    const [qemu] = findQemu([vm.id]) as [number];
    process.kill(qemu, 'SIGSTOP');
    const error = await failureOf(vm.request({ op: 'stats' }, { deadline: 300 }));
    t.equal(error.code, 'YAVM_E_GUEST_TIMEOUT');
    await vm.kill();
    t.match(await vm.ended, { reason: 'killed', orderly: false, error: null });
    t.strictSame(findQemu([vm.id]), []);
  },
);

t.test('a start that comes to nothing', async (t) => {
  const env = privateEnvironment(t);
  const base = join(env.XDG_RUNTIME_DIR as string, 'ya-vm');
  const nothingLeft = (t: Test) => t.strictSame(readdirSync(base), [], 'nothing is left of it');
  const floor = { ...bootAssets(), initramfs: builtFile('floor.cpio.zst') };
  // So that the kernel says on the console what it does.
  const talking: Partial<VmSpec> = { kernelWords: ['loglevel=7'], root: { ram: 8e6 } };

  await t.test(
    'the guest does not answer: an error at the deadline, with what the console says',
    async (t) => {
      const began = performance.now();
      const start = startVm(vmSpec({ ...talking, assets: floor }), { env, bootDeadline: BOOT });
      const error = await failureOf(start);
      const milliseconds = performance.now() - began;
      t.equal(error.code, 'YAVM_E_BOOT_TIMEOUT');
      t.match(
        error.message,
        /^the guest has not started within 15 s\n +the last lines of the console:\n.*\[ +\d+\.\d+\]/s,
      );
      t.ok(milliseconds >= BOOT, `${Math.round(milliseconds)} ms`);
      tookAtMost(t, 'the end after the deadline', milliseconds - BOOT, NEWS);
      nothingLeft(t);
    },
  );

  await t.test('there is no init: a panic, long before the deadline', async (t) => {
    const start = startVm(vmSpec({ kernelWords: ['rdinit=/nonexistent'], root: { ram: 8e6 } }), { env });
    const error = await failureOf(start);
    t.equal(error.code, 'YAVM_E_GUEST_PANIC');
    t.match(error.message, /Kernel panic - not syncing/);
    nothingLeft(t);
  });

  await t.test('it is given up in the middle', async (t) => {
    const reason = new Error('given up');
    const moments = { cold: 900, auto: 60 } as const;
    for (const start of ['cold', 'auto'] as const) {
      const signal = after(moments[start], reason);
      t.equal(
        await failureOf(startVm(vmSpec({ start, root: { ram: 8e6 } }), { env, signal })),
        reason,
        start,
      );
      nothingLeft(t);
    }
  });

  await t.test('what is to be booted is no kernel', async (t) => {
    const start = startVm(vmSpec({ assets: { ...floor, kernel: builtFile('init') } }), { env });
    const error = await failureOf(start);
    t.equal(error.code, 'YAVM_E_QEMU_DIED');
    t.match(error.message, /QEMU's messages:\n.*(kernel|PVH|boot)/is);
    nothingLeft(t);
  });
});

t.test('kill -9 of the supervisor, at random moments', async (t) => {
  const env = privateEnvironment(t);
  const folder = env.XDG_RUNTIME_DIR as string;
  const [base, temporary] = [join(folder, 'ya-vm'), join(folder, 'tmp')];
  mkdirSync(temporary);
  const own = { ...env, TMPDIR: temporary, YAVM_DISK_DIR: temporary };
  const rounds = soak ? 20 : 5;
  /** From the start to the command's run, and some of it; a moment in each part of that time. */
  const span = 4000;
  let [killed, worst] = [0, 0];
  for (let round = 0; round < rounds; round++) {
    const moment = Math.round(((round + random.between(0, 1000) / 1000) * span) / rounds);
    const words = ['run', ...ACCEL, '-m', '128M', '--', 'sh', '-c', 'while :; do echo line; done'];
    const supervisor = startCli(t, words, { env: own });
    await sleep(moment);
    supervisor.kill('SIGKILL');
    const ids = list(base);
    const left = () => [...findQemu(ids), ...findProcesses(folder)];
    killed += findQemu(ids).length;
    const milliseconds = await waitUntil(() => left().length === 0, roomFor(2000));
    tookAtMost(t, `killed after ${moment} ms: all gone`, milliseconds, 2000);
    worst = Math.max(worst, milliseconds ?? 0);
    t.equal((await supervisor.ended()).signal, 'SIGKILL');
  }
  t.comment(`${killed} times QEMU was still to be seen after the kill; longest wait ${Math.round(worst)} ms`);
  const next = await runCli(t, ['run', ...ACCEL, '--', 'true'], { env: own });
  t.equal(next.code, 0, next.stderr);
  t.strictSame(list(base), [], 'the next start has removed every run folder, and its own');
  t.strictSame(list(temporary), [], 'and no disk or other temporary file was left');
});

/** What a promise fails with. @throws {Error} when it does not */
async function failureOf(promise: Promise<unknown>): Promise<YavmError> {
  return promise.then(
    () => {
      throw new Error('it did not fail');
    },
    (error: unknown) => toError(error) as YavmError,
  );
}

/** Fires with `reason` after a time. */
function after(milliseconds: number, reason: Error): AbortSignal {
  const controller = new AbortController();
  setTimeout(() => controller.abort(reason), milliseconds);
  return controller.signal;
}

/** Names in a folder; none where it is not there. */
function list(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
