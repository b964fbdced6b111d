/** Processes end, are killed, reaped and counted as PID 1 should have it. */
import t, { type Test } from 'tap';
import type { Vm } from '../../host/runtime/index.ts';
import { eventually, type Running, start } from '../lib/running.ts';
import { count, soak } from '../lib/scale.ts';
import { run, shell, startTestVm } from '../lib/vm.ts';

// The runner has a deadline for the whole file.
t.setTimeout(0);

const MIB = 1024 * 1024;
const [SIGINT, SIGKILL, SIGUSR1, SIGSEGV, SIGTERM] = [2, 9, 10, 11, 15];

/** The kernel's files of processes that wait to be reaped. */
async function zombies(vm: Vm): Promise<string> {
  return await shell(vm, 'grep -l "^State:.Z" /proc/[0-9]*/status 2>/dev/null; true');
}

/** Those of the processes that there still are, one a line. */
async function alive(vm: Vm, pids: string[]): Promise<string> {
  return await shell(vm, `for pid in ${pids.join(' ')}; do [ ! -d /proc/$pid ] || echo $pid; done`);
}

/** Lines of its stdout so far. */
function lines({ stdout }: Running): string[] {
  return stdout().split('\n').slice(0, -1);
}

/** A fifo that holds everyone who reads it, until the gate's stdin ends: then all read its end at once. */
async function startGate(vm: Vm): Promise<Running> {
  const gate = await start(vm, { argv: ['sh', '-c', 'exec 3<>/gate; echo there; cat'], stdin: true });
  await eventually('the gate is there', () => gate.stdout() !== '');
  return gate;
}

async function nothingRuns(vm: Vm): Promise<void> {
  await eventually('no command is left', async () => (await vm.stats()).processes === 0);
}

t.test('with 4 CPU', async (t) => {
  const vm = await startTestVm(t, { cpus: 4 });
  await shell(vm, 'mkfifo /gate');

  t.test('40 commands that end at the same moment are 40 ends', async (t) => {
    for (let round = 0; round < count(25); round++) {
      const gate = await startGate(vm);
      const running = await Promise.all(
        Array.from({ length: 40 }, (_, number) =>
          start(vm, ['sh', '-c', `exec 3</gate; echo ready; read line <&3; echo ${number}; exit ${number}`]),
        ),
      );
      await eventually('all wait', () => running.every(({ stdout }) => stdout() === 'ready\n'));
      gate.command.stdin?.end();
      const results = await Promise.all(running.map(({ command }) => command.result));
      t.strictSame(
        results.map(({ exitCode, complete }, index) => [exitCode, complete, running[index]?.stdout()]),
        running.map((_, number) => [number, true, `ready\n${number}\n`]),
      );
    }
    await nothingRuns(vm);
  });

  t.test('40 orphans that end at the same moment are all reaped', async (t) => {
    for (let round = 0; round < count(25); round++) {
      const gate = await startGate(vm);
      // Each is the child of a subshell that ends at once, so PID 1 becomes its parent.
      const orphan = `(sh -c 'exec 3</gate; echo $$; read line <&3' &)`;
      const parent = await start(vm, ['sh', '-c', `for i in $(seq 40); do ${orphan}; done`]);
      t.match(await parent.command.result, { exitCode: 0 });
      await eventually('all wait', () => lines(parent).length === 40);
      const parents = `for pid in ${lines(parent).join(' ')}; do grep ^PPid: /proc/$pid/status; done`;
      await eventually('all are orphans', async () => (await shell(vm, parents)) === 'PPid:\t1\n'.repeat(40));
      t.equal((await vm.stats()).processes, 2, 'their command is there as long as they are');
      gate.command.stdin?.end();
      await eventually('all are gone', async () => (await alive(vm, lines(parent))) === '');
      await nothingRuns(vm);
      t.equal(await zombies(vm), '');
    }
  });
});

t.test('with 1 CPU', async (t) => {
  const vm = await startTestVm(t);
  await t.test('ends', (t) => ends(t, vm));
  await t.test('kills', (t) => kills(t, vm));
  await t.test('figures', (t) => figures(t, vm));
  await t.test('out of memory', (t) => outOfMemory(t, vm));
});

async function ends(t: Test, vm: Vm): Promise<void> {
  t.test('exit codes', async (t) => {
    for (const code of [0, 1, 42, 127, 128, 255]) {
      const { result } = await run(vm, ['sh', '-c', `exit ${code}`]);
      t.strictSame([result.exitCode, result.signal], [code, undefined]);
    }
  });

  t.test('a command that a signal ends tells which: 128 + n', async (t) => {
    for (const signal of [SIGINT, SIGKILL, SIGSEGV, SIGTERM]) {
      const { result } = await run(vm, ['sh', '-c', `kill -${signal} $$`]);
      t.match(result, { exitCode: 128 + signal, signal, complete: true, outOfMemory: false });
    }
  });

  t.test('a handler of the command sees the signal', async (t) => {
    const handler = 'trap "echo caught; exit 7" USR1; echo ready; while :; do sleep 0.1; done';
    const running = await start(vm, ['sh', '-c', handler]);
    await eventually('it is ready', () => running.stdout() !== '');
    await running.command.signal(SIGUSR1);
    t.match(await running.command.result, { exitCode: 7 });
    t.equal(running.stdout(), 'ready\ncaught\n');
  });

  t.test('a signal goes to the process alone, or to the tree, also after the process', async (t) => {
    const running = await start(vm, ['sh', '-c', 'sleep 1000 & echo $!; wait']);
    await eventually('it has a child', () => lines(running).length === 1);
    await running.command.signal(SIGTERM);
    t.match(await running.command.result, { exitCode: 128 + SIGTERM, signal: SIGTERM });
    t.equal(await alive(vm, lines(running)), running.stdout(), 'the child goes on');
    await running.command.signal(SIGKILL, { tree: true });
    await eventually('the child is gone', async () => (await alive(vm, lines(running))) === '');
    await nothingRuns(vm);
    await t.rejects(running.command.signal(SIGTERM), { code: 'YAVM_E_GUEST_UNKNOWN_PROCESS' });
  });
}

async function kills(t: Test, vm: Vm): Promise<void> {
  t.test('a kill ends the whole tree: double forks, other sessions, those that ignore TERM', async (t) => {
    const stubborn = `trap "" TERM HUP INT; echo $$; while :; do sleep 0.1; done`;
    const tree = `
      ((sh -c '${stubborn}' &) &)
      setsid sh -c '${stubborn}' &
      (setsid sh -c '${stubborn}' &)
      (sh -c 'echo $$; exec sleep 1000' &)
      ${stubborn}`;
    for (let round = 0; round < count(20); round++) {
      const running = await start(vm, ['sh', '-c', tree]);
      await eventually('all five run', () => lines(running).length === 5);
      const pids = lines(running);
      await running.command.signal(SIGTERM, { tree: true });
      const left = async () => (await alive(vm, pids)).trim().split('\n').length;
      await eventually('TERM has ended the one that lets it', async () => (await left()) === 4);
      await running.command.signal(SIGKILL, { tree: true });
      t.match(await running.command.result, { exitCode: 128 + SIGKILL, signal: SIGKILL, complete: true });
      await eventually('all are gone', async () => (await alive(vm, pids)) === '');
      await nothingRuns(vm);
      t.equal(await zombies(vm), '');
    }
  });

  for (const pidsLimit of [50, soak ? 1000 : 200]) {
    t.test(`a fork bomb of ${pidsLimit} tasks is ended by one kill`, async (t) => {
      // A shell that cannot fork ends, and makes room for the others' children: thousands of orphans for PID 1.
      const bomb = 'bomb() { while :; do (bomb) & done; }; bomb & echo lit; exec sleep 1000';
      const running = await start(vm, { argv: ['sh', '-c', bomb], pidsLimit });
      await eventually('it is at its limit', () => running.stderr().includes("can't fork"));
      t.ok(((await vm.stats(running.command.id)).process?.tasks ?? 0) >= 40, 'the agent answers');
      t.equal(await shell(vm, 'echo others go on'), 'others go on\n');
      await running.command.signal(SIGKILL, { tree: true });
      t.match(await running.command.result, { exitCode: 128 + SIGKILL });
      await nothingRuns(vm);
      t.equal(await zombies(vm), '');
    });
  }
}

async function figures(t: Test, vm: Vm): Promise<void> {
  t.test('each command has figures of its own', async (t) => {
    const { result } = await run(vm, [
      'sh',
      '-c',
      'dd if=/dev/zero of=/dev/null bs=20M count=20 2>/dev/null',
    ]);
    t.ok(result.memoryPeak >= 20 * MIB && result.memoryPeak < 60 * MIB, `peak memory ${result.memoryPeak}`);
    t.ok(result.cpu.user + result.cpu.system > 1, 'CPU time in milliseconds');
    const idle = await run(vm, ['true']);
    t.ok(idle.result.memoryPeak < 10 * MIB, `peak memory ${idle.result.memoryPeak}`);

    const running = await start(vm, ['sh', '-c', 'sleep 1000 & sleep 1000 & echo there; wait']);
    await eventually('it runs', () => running.stdout() !== '');
    const { process } = await vm.stats(running.command.id);
    t.match(process, { tasks: 3 });
    t.ok((process?.memory ?? 0) > 0 && (process?.memoryPeak ?? 0) >= (process?.memory ?? 0));
    await running.command.signal(SIGKILL, { tree: true });
    t.match(await running.command.result, { exitCode: 128 + SIGKILL });
  });
}

async function outOfMemory(t: Test, vm: Vm): Promise<void> {
  /** Takes so much at once, and writes to all of it. */
  const hog = (mebibytes: number) => `dd if=/dev/zero of=/dev/null bs=${mebibytes}M count=1 2>/dev/null`;
  /** Of the VM, for which the kernel would still promise the memory that commands may not take. */
  const all = Math.floor((await vm.stats()).memory.total / MIB) - 8;

  t.test('a command beyond its limit is killed, and its result says why', async (t) => {
    const argv = ['sh', '-c', `exec ${hog(64)}`];
    const { result } = await run(vm, { argv, memoryLimit: 16 * MIB });
    t.match(result, { exitCode: 128 + SIGKILL, signal: SIGKILL, outOfMemory: true, complete: true });
    t.match((await run(vm, { argv, memoryLimit: 128 * MIB })).result, { exitCode: 0, outOfMemory: false });
  });

  t.test('a command that loses only a child to it goes on, and tells too', async (t) => {
    const argv = ['sh', '-c', `${hog(64)}; echo $?`];
    const { result, stdout } = await run(vm, { argv, memoryLimit: 16 * MIB });
    t.match(result, { exitCode: 0, outOfMemory: true });
    t.equal(stdout.text, '137\n');
  });

  t.test('a command that takes all there is does not take the VM with it', async (t) => {
    for (let round = 0; round < count(20); round++) {
      const bystander = await start(vm, { argv: ['cat'], stdin: true });
      const { result } = await run(vm, ['sh', '-c', `exec ${hog(all)}`]);
      t.match(result, { exitCode: 128 + SIGKILL, outOfMemory: true });
      bystander.command.stdin?.end('still here\n');
      t.match(await bystander.command.result, { exitCode: 0, outOfMemory: false });
      t.equal(bystander.stdout(), 'still here\n');
      const { available } = (await vm.stats()).memory;
      t.ok(available > 100 * MIB, `${available} bytes are free again`);
    }
  });

  t.test('nor do many that do it at the same time', async (t) => {
    // What dd holds while nobody takes its output is there until all of them have their share.
    const held = `dd if=/dev/zero bs=${Math.floor(all / 4)}M count=1 2>/dev/null | sleep 3`;
    const outcomes = await Promise.all(Array.from({ length: 8 }, () => run(vm, ['sh', '-c', held])));
    t.ok(outcomes.filter(({ result }) => result.outOfMemory).length >= 4);
    for (const { result } of outcomes) t.ok(result.complete);
    t.match((await run(vm, ['sh', '-c', hog(100)])).result, { exitCode: 0, outOfMemory: false });
  });

  t.test('nor do files in memory', async (t) => {
    const full = await run(vm, ['sh', '-c', 'dd if=/dev/zero of=/dev/shm/file bs=1M']);
    t.match(full.result, { exitCode: 1, outOfMemory: false });
    t.match(full.stderr.text, 'No space left on device');
    t.match((await run(vm, ['sh', '-c', `exec ${hog(all)}`])).result, { exitCode: 137, outOfMemory: true });
    await shell(vm, 'rm /dev/shm/file');
    t.match((await run(vm, ['sh', '-c', hog(100)])).result, { exitCode: 0 });
  });

  t.test('and each time the limit of the commands acted, not the end of the memory', async (t) => {
    const limit = Number(await shell(vm, 'cat /sys/fs/cgroup/yavm/memory.max'));
    const { agent, available } = (await vm.stats()).memory;
    t.ok(limit < available, `${limit} bytes for commands, ${available} are free`);
    t.ok(agent < 8 * MIB, `the agent has ${agent} bytes`);
    t.equal(await shell(vm, 'dmesg | grep "Out of memory: Killed"; true'), '');
    t.match(await shell(vm, 'dmesg'), 'Memory cgroup out of memory: Killed');
  });
}
