import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { silentLogger } from '../../host/lib/logger.ts';
import type { VmSpec } from '../../host/runtime/types.ts';
import { Vm } from '../../host/runtime/vm.ts';
import type { FakeGuest } from '../lib/fake-guest.ts';
import { type FakeMonitor, type FakeQemu, fakeFolder, fakeQemu, fakeRecord } from '../lib/fake-qemu.ts';
import { commandSpec } from '../lib/guest-session.ts';
import { tookAtMost } from '../lib/in-time.ts';

const SPEC: VmSpec = {
  assets: { kernel: '/k', initramfs: '/i', manifest: '/m' },
  layers: ['/layer'],
  root: { ram: 1 << 20 },
  memoryMiB: 512,
  cpus: 1,
  hostname: 'golem',
  accel: 'tcg',
};

interface Parts extends FakeQemu {
  vm: Vm;
  folder: ReturnType<typeof fakeFolder>;
  agent: FakeGuest;
  qmp: FakeMonitor;
}

/** A VM on a QEMU that was just launched. */
async function launch(t: { teardown(fn: () => void): void }): Promise<Parts> {
  const fake = await fakeQemu();
  const folder = fakeFolder(t);
  const vm = new Vm({ folder, record: fakeRecord(), qemu: fake.qemu, logger: silentLogger });
  const [agent, qmp] = await Promise.all([fake.guest, fake.monitor]);
  t.teardown(() => void fake.die({ signal: 9 }));
  return Object.assign(fake, { vm, folder, agent, qmp });
}

/** A VM that runs. */
async function start(t: { teardown(fn: () => void): void }): Promise<Parts> {
  const parts = await launch(t);
  const { vm, agent, qmp } = parts;
  qmp.greet();
  agent.hello();
  agent.answer = ({ id, op }) =>
    agent.reply(id, op === 'configure' ? { steps: [] } : op === 'run' ? { pid: 5 } : {});
  await vm.boot(60_000);
  await vm.configure(SPEC, 60_000);
  return parts;
}

t.test('start: the states are written down, the console is found', async (t) => {
  const { vm, folder, agent } = await start(t);
  t.equal(vm.state, 'running');
  t.match(vm.hello, { protocol: 1 });
  t.match(await agent.requested('configure'), { hostname: 'golem', layers: [{ serial: 'layer0' }] });
  while (folder.records.at(-1)?.console === null) await delay(5);
  t.strictSame(
    [...new Set(folder.records.map(({ state }) => state))],
    ['launching', 'booting', 'configuring', 'running'],
  );
  t.equal(folder.records.at(-1)?.console, '/dev/pts/42');
});

t.test('stop: in order, and only once', async (t) => {
  const parts = await start(t);
  const { vm, agent, die, folder } = parts;
  agent.answer = ({ id }) => {
    agent.reply(id, {});
    void die({ code: 0 });
  };
  await Promise.all([vm.stop({ grace: 1234 }), vm.stop()]);
  t.match(await agent.requested('shutdown'), { grace: 1234 });
  t.match(await vm.ended, { reason: 'stopped', error: null, orderly: true, cpuSeconds: Number });
  t.equal(vm.state, 'ended');
  t.ok(folder.removed);
  t.equal(parts.kills, 0);
  await t.rejects(vm.run(commandSpec()), { code: 'YAVM_E_VM_STOPPED' });
  await vm.stop();
  await vm.kill();
});

t.test('stop: a guest that refuses is quit, then killed', async (t) => {
  const parts = await start(t);
  const { vm, agent, qmp } = parts;
  agent.answer = ({ id }) => agent.refuse(id, { code: 'internal', message: 'cannot' });
  qmp.refuse = true;
  await vm.stop();
  t.ok(qmp.commands.includes('quit'));
  t.ok(parts.kills > 0);
  t.match(await vm.ended, { reason: 'stopped', error: null, orderly: false });
});

t.test('kill: pending work fails with YAVM_E_VM_STOPPED', async (t) => {
  const { vm } = await start(t);
  const command = await vm.run(commandSpec());
  await vm.kill();
  await t.rejects(command.result, { code: 'YAVM_E_VM_STOPPED', message: 'the VM was killed' });
  t.match(await vm.ended, { reason: 'killed', orderly: false });
});

t.test('deaths are told apart, at once, with what was said last', async (t) => {
  const cases: [string, string, RegExp, (parts: Parts) => void][] = [
    [
      'panic',
      'YAVM_E_GUEST_PANIC',
      /panicked: test[\s\S]*CPU: 0/,
      ({ console, qmp, die }) => {
        console('[    1.0] Kernel panic - not syncing: test\r\n[    1.1] CPU: 0\r\n');
        qmp.event('GUEST_PANICKED', { action: 'poweroff' });
        qmp.event('SHUTDOWN', { guest: true, reason: 'guest-panic' });
        void die({ code: 0 });
      },
    ],
    [
      'agent',
      'YAVM_E_AGENT_ABORT',
      /TypeError: boom[\s\S]*at init\.js/,
      ({ agent, die }) => {
        agent.logLine({ level: 60, msg: 'TypeError: boom', stack: 'at init.js' });
        void die({ code: 141 });
      },
    ],
    ['QEMU killed', 'YAVM_E_QEMU_DIED', /by signal 9/, ({ die }) => void die({ signal: 9 })],
    [
      'QEMU failed',
      'YAVM_E_QEMU_DIED',
      /code 1[\s\S]*no space/,
      ({ qemu, die }) => {
        qemu.messages.push(Buffer.from('qemu: no space\n'));
        void die({ code: 1 });
      },
    ],
    [
      'power-off',
      'YAVM_E_GUEST_POWEROFF',
      /powered itself off/,
      ({ qmp, die }) => {
        qmp.event('SHUTDOWN', { guest: true, reason: 'guest-shutdown' });
        void die({ code: 0 });
      },
    ],
    [
      'protocol',
      'YAVM_E_GUEST_PROTOCOL',
      /yavm\.data.*type 1/,
      ({ agent }) => void agent.data.write(Uint8Array.from([9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0])),
    ],
  ];
  for (const [name, code, message, cause] of cases) {
    const parts = await start(t);
    const command = await parts.vm.run(commandSpec());
    const began = performance.now();
    cause(parts);
    await t.rejects(command.result, { code, message }, name);
    tookAtMost(t, name, performance.now() - began, 1000);
    t.match(await parts.vm.ended, { reason: 'failed', error: { code } }, name);
    t.ok(parts.folder.removed);
  }
});

t.test('a boot that does not answer: its deadline, with the console', async (t) => {
  const { vm, console: print, folder } = await launch(t);
  print('tsc: stuck\r\n');
  while (vm.consoleLines(1)[0] !== 'tsc: stuck') await delay(5);
  await t.rejects(vm.boot(100), { code: 'YAVM_E_BOOT_TIMEOUT', message: /0\.1 s[\s\S]*tsc: stuck/ });
  t.match(await vm.ended, { reason: 'failed', error: { code: 'YAVM_E_BOOT_TIMEOUT' } });
  t.ok(folder.removed);
});

t.test('a QEMU that ends during the boot: its own words, not a deadline', async (t) => {
  const { vm, qemu, die } = await launch(t);
  const booting = vm.boot(60_000);
  qemu.messages.push(
    Buffer.from('char device redirected to /dev/pts/0 (label console)\nqemu: unable to find CPU model\n'),
  );
  void die({ code: 1 });
  await t.rejects(booting, {
    code: 'YAVM_E_QEMU_DIED',
    message: /code 1\n {2}QEMU's messages:\n {4}qemu: unable/,
  });
  await t.rejects(vm.configure(SPEC, 60_000), { code: 'YAVM_E_QEMU_DIED' });
});

t.test('an agent of another protocol is refused', async (t) => {
  const { vm, agent } = await launch(t);
  agent.hello({ protocol: 2, agent: '9.0' });
  await t.rejects(vm.boot(60_000), {
    code: 'YAVM_E_PROTOCOL_VERSION',
    message: /agent 9\.0 speaks protocol 2/,
  });
});

t.test('a start that is given up', async (t) => {
  const { vm } = await launch(t);
  await t.rejects(vm.boot(60_000, AbortSignal.timeout(20)), { name: 'TimeoutError' });
});

t.test('what the console prints is kept within a bound', async (t) => {
  const { vm, console: print, folder } = await start(t);
  const line = `${'x'.repeat(1023)}\n`;
  for (let count = 0; count < 58; count++) {
    // Each portion is read before the next: a full pipe would stop its writer, who is also its reader here.
    print(`${line.repeat(50)}${count}\n`);
    while (vm.consoleLines(1)[0] !== String(count)) await delay(1);
  }
  print('the end\n');
  while (vm.consoleLines(1)[0] !== 'the end') await delay(5);
  const [log, old] = ['console.log', 'console.log.1'].map((name) => readFileSync(join(folder.path, name)));
  t.ok((log?.length ?? 0) <= 1024 * 1024 && (old?.length ?? 0) <= 1024 * 1024);
  t.match(log?.toString(), /the end\n$/);
});
