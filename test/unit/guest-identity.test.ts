import t from 'tap';
import { applyIdentity, checkHostname, machineId, wantsMachineId } from '../../guest/boot/identity.ts';
import { renew } from '../../guest/boot/renew.ts';
import { fakeNative, systemError } from '../lib/fake-native.ts';

t.test('host names', (t) => {
  for (const name of ['a', 'vm-1', 'node.example.org', 'A_b', 'x'.repeat(64)]) checkHostname(name);
  for (const name of ['', '-a', 'a-', 'a b', 'a\nb', 'ä', '.', 'x'.repeat(65)]) {
    t.throws(() => checkHostname(name), { code: 'bad-request' }, JSON.stringify(name));
  }
  t.end();
});

t.test('a machine id is made only where the image asks for one', (t) => {
  t.equal(wantsMachineId(null), false);
  t.equal(wantsMachineId(''), true);
  t.equal(wantsMachineId('\n'), true);
  t.equal(wantsMachineId('uninitialized\n'), true);
  t.equal(wantsMachineId('0123456789abcdef0123456789abcdef\n'), false);
  t.equal(machineId(new Uint8Array(16).fill(0xff)), 'ffffffffffff4fffbfffffffffffffff', 'a version 4 UUID');
  t.equal(machineId(new Uint8Array(20)), '00000000000040008000000000000000');
  t.end();
});

t.test('the name is set in the kernel first, then in /etc; a failure is named', (t) => {
  const { native, open } = fakeNative(
    { etc: [] },
    {
      setHostname: () => {
        throw systemError('EPERM', 'sethostname');
      },
    },
  );
  t.throws(() => applyIdentity(native, 5, 'vm'), { code: 'file-failed', errno: 'EPERM', message: /'vm'/ });
  const refused = fakeNative({ etc: [] });
  t.throws(() => applyIdentity(refused.native, 5, 'vm'), { code: 'file-failed', errno: 'ENOENT' });
  t.strictSame(refused.only('setHostname'), [['setHostname', 'vm']]);
  t.equal(open.size + refused.open.size, 0);
  t.end();
});

t.test('random pool before clock; both checked before anything is done', (t) => {
  const { native, calls } = fakeNative();
  const entropy = new Uint8Array(32);
  renew(native, { clock: 1_800_000_000.5, entropy });
  t.strictSame(calls, [
    ['addEntropy', entropy],
    ['setClock', 1_800_000_000.5],
  ]);
  calls.length = 0;
  const later = fakeNative({}, { monotonic: () => 2500 });
  renew(later.native, { clock: 1_800_000_000, uptime: 1000, entropy });
  t.strictSame(later.only('setClock'), [['setClock', 1_800_000_001.5]], 'what has passed since is added');
  t.throws(() => renew(native, { clock: 1_800_000_000, entropy: new Uint8Array(31) }), {
    code: 'bad-request',
  });
  for (const clock of [0, -1, Number.NaN, 1e12])
    t.throws(() => renew(native, { clock, entropy }), { code: 'bad-request' });
  t.strictSame(calls, []);
  const failing = fakeNative(
    {},
    {
      setClock: () => {
        throw systemError('EPERM', 'clock_settime');
      },
    },
  );
  t.throws(() => renew(failing.native, { clock: 1_800_000_000, entropy }), {
    code: 'internal',
    syscall: 'clock_settime',
  });
  t.end();
});
