import t from 'tap';
import { TextTail } from '../../host/lib/text-tail.ts';
import type { VmState } from '../../host/runtime/types.ts';
import { bootTimeout, describeEnd, type EndFacts } from '../../host/runtime/vm-end.ts';
import { VmStateMachine } from '../../host/runtime/vm-state.ts';

const FACTS: EndFacts = {
  exit: { code: 0 },
  events: [],
  consoleText: '',
  consoleLines: [],
  lastWords: null,
  qemuMessages: [],
};

const shutdown = (reason: string) => ({ event: 'SHUTDOWN', data: { guest: true, reason } });
const panicText =
  '[ 1.0] x\r\n[ 1.1] Kernel panic - not syncing: Attempted to kill init! \u001b[0m\r\n[ 1.2] CPU: 0\r\n';

t.test('each end has its name', async (t) => {
  const cases: [string, Partial<EndFacts>, string, RegExp][] = [
    ['uncaught error', { exit: { code: 141 } }, 'YAVM_E_AGENT_ABORT', /an error that nothing caught/],
    ['native crash', { exit: { code: 143 } }, 'YAVM_E_AGENT_ABORT', /a crash in native code/],
    ['out of memory', { exit: { code: 145 } }, 'YAVM_E_AGENT_ABORT', /it ran out of memory/],
    [
      'last words',
      { exit: { code: 141 }, lastWords: 'TypeError: x\n    at init.js:1' },
      'YAVM_E_AGENT_ABORT',
      /: TypeError: x\n {2}the agent's last words:\n {4}TypeError: x\n {8}at init.js:1/,
    ],
    [
      'panic by its text',
      { consoleText: panicText },
      'YAVM_E_GUEST_PANIC',
      /panicked: Attempted to kill init! \\x1b/,
    ],
    [
      'panic by its event',
      { events: [{ event: 'GUEST_PANICKED', data: {} }] },
      'YAVM_E_GUEST_PANIC',
      /kernel panicked$/,
    ],
    [
      'panic before reset',
      { events: [shutdown('guest-reset')], consoleText: panicText },
      'YAVM_E_GUEST_PANIC',
      /init/,
    ],
    ['power-off', { events: [shutdown('guest-shutdown')] }, 'YAVM_E_GUEST_POWEROFF', /powered itself off/],
    ['restart', { events: [shutdown('guest-reset')] }, 'YAVM_E_GUEST_POWEROFF', /restarted itself/],
    ['signal', { exit: { signal: 11 } }, 'YAVM_E_QEMU_DIED', /by signal 11/],
    [
      'code',
      { exit: { code: 1 }, qemuMessages: ['qemu: no'] },
      'YAVM_E_QEMU_DIED',
      /code 1\n {2}QEMU's messages:\n {4}qemu: no/,
    ],
  ];
  for (const [name, change, code, message] of cases) {
    t.match(describeEnd({ ...FACTS, ...change }), { code, message }, name);
  }
});

t.test('hints for what QEMU says', async (t) => {
  const hint = (line: string) => describeEnd({ ...FACTS, exit: { code: 1 }, qemuMessages: [line] }).hint;
  t.match(hint("cannot set up guest memory 'pc.ram': Cannot allocate memory"), /use less/);
  t.match(hint('Failed to get "write" lock'), /Another VM/);
  t.match(hint('Could not access KVM kernel module: Permission denied'), /doctor/);
  t.equal(hint('something new'), undefined);
  t.match(describeEnd({ ...FACTS, exit: { signal: 9 } }).hint, /dmesg/);
});

t.test('what is quoted is bounded; a panic is quoted from its reason on', async (t) => {
  const many = Array.from({ length: 60 }, (_, index) => `line ${index}`);
  const died = describeEnd({ ...FACTS, exit: { code: 1 }, consoleLines: many });
  t.match(died.message, /line 50\n(.*\n)*.*line 59$/);
  t.notMatch(died.message, /line 49/);
  const panicked = describeEnd({
    ...FACTS,
    consoleText: panicText,
    consoleLines: [...many.slice(0, 30), 'Kernel panic - not syncing: x', ...many.slice(30)],
  });
  t.match(panicked.message, /console:\n {4}Kernel panic/);
  t.notMatch(panicked.message, /line 40/);
});

t.test('a boot that does not answer tells its deadline and the console', async (t) => {
  const { exit: _, ...facts } = FACTS;
  t.match(bootTimeout(20_000, { ...facts, consoleLines: ['tsc: Marking TSC unstable'] }), {
    code: 'YAVM_E_BOOT_TIMEOUT',
    message: /within 20 s\n(.*\n)*.*Marking TSC/,
  });
});

t.test('states follow the table', async (t) => {
  const seen: VmState[] = [];
  const vm = new VmStateMachine((state) => void seen.push(state));
  const path: VmState[] = ['launching', 'booting', 'configuring', 'running', 'stopping', 'ended'];
  for (const state of path) vm.go(state);
  t.strictSame(seen, path);
  t.throws(() => vm.go('running'), /from ended to running/);
  t.throws(() => new VmStateMachine().go('running'), /from new to running/);
  for (const before of [[], ['launching'], ['launching', 'booting']] as VmState[][]) {
    const ending = new VmStateMachine();
    for (const state of before) ending.go(state);
    t.doesNotThrow(() => ending.go('ended'), `may end from ${before.at(-1) ?? 'new'}`);
  }
});

t.test('the tail of a text: bounded, whole lines, nothing that moves a cursor', async (t) => {
  const tail = new TextTail(100);
  for (let index = 0; index < 10_000; index++) tail.push(Buffer.from(`line ${index}\n`));
  t.ok(tail.text.length <= 200);
  t.strictSame(tail.lines(2), ['line 9998', 'line 9999']);
  const firmware = new TextTail(1000);
  firmware.push(Buffer.from('\u001bc\u001b[?7l\u001b[2J\u001b[0mSeaBIOS\r\n\r\n\u0007bell\rback'));
  t.strictSame(firmware.lines(10), ['SeaBIOS', '\\x07bell', 'back']);
  const wide = new TextTail(1000);
  wide.push(Buffer.from('x'.repeat(900)));
  t.strictSame(wide.lines(1, 10), ['xxxxxxxxxx']);
});
