/** What happens when the host's disk refuses a VM's writes: it waits, it goes on, or it ends with the reason. */
import t from 'tap';
import type { YavmError } from '../../host/lib/errors.ts';
import { DiskWatch } from '../../host/runtime/disk-watch.ts';
import { FakeClock } from '../lib/fake-clock.ts';

const FULL = {
  event: 'BLOCK_IO_ERROR',
  data: { action: 'stop', nospace: true, reason: 'No space left on device', operation: 'write' },
};

function watch() {
  const clock = new FakeClock();
  const seen = { resumed: 0, stopped: [] as string[], errors: [] as YavmError[] };
  const watch = new DiskWatch({
    resume: () => void seen.resumed++,
    onStopped: (reason) => void seen.stopped.push(reason),
    onGivenUp: (error) => void seen.errors.push(error),
    clock,
  });
  return { clock, seen, watch };
}

t.test('room that comes back: the VM goes on, and nothing else happened', async (t) => {
  const { clock, seen, watch: disk } = watch();
  disk.take(FULL);
  disk.take(FULL);
  t.strictSame(seen, { resumed: 0, stopped: ['No space left on device'], errors: [] });
  clock.pass(1000);
  t.equal(seen.resumed, 1, 'one try for all writes that failed');
  clock.pass(3_600_000);
  t.equal(seen.resumed, 1);
  t.equal(clock.pending, 0);
  disk.take(FULL);
  clock.pass(999);
  t.strictSame([seen.stopped.length, seen.errors.length], [2, 0], 'much later: it is a new wait');
});

t.test('room that does not come back ends the VM, within seconds, and once', async (t) => {
  const { clock, seen, watch: disk } = watch();
  for (let second = 0; second < 60; second++) {
    for (let write = 0; write < 3; write++) disk.take(FULL);
    clock.pass(1000);
  }
  t.equal(seen.resumed, 10);
  t.equal(seen.errors.length, 1);
  t.match(seen.errors[0], {
    code: 'YAVM_E_DISK_FULL',
    message: /for 10 s: No space left/,
    hint: /YAVM_DISK_DIR/,
  });
  t.equal(clock.pending, 0);
});

t.test('another reason than room has its own error; hostile ones are bounded', async (t) => {
  const { clock, seen, watch: disk } = watch();
  const broken = {
    event: 'BLOCK_IO_ERROR',
    data: { action: 'stop', reason: `I/O error\u001b[2J${'x'.repeat(1e5)}` },
  };
  for (let second = 0; second <= 10; second++) {
    disk.take(broken);
    clock.pass(1000);
  }
  const [error] = seen.errors;
  t.match(error, { code: 'YAVM_E_DISK_FAILED', message: /I\/O error/ });
  t.ok((error?.message.length ?? 1e9) < 500 && !error?.message.includes('\u001b'));
});

t.test('what is no stop of the VM is not looked at; nothing happens after its end', async (t) => {
  const { clock, seen, watch: disk } = watch();
  disk.take({ event: 'BLOCK_IO_ERROR', data: { action: 'report', reason: 'x' } });
  disk.take({ event: 'STOP', data: {} });
  disk.take({ event: 'BLOCK_IO_ERROR', data: {} });
  t.strictSame(seen, { resumed: 0, stopped: [], errors: [] });
  disk.take(FULL);
  disk.close();
  clock.pass(60_000);
  disk.take(FULL);
  t.strictSame([seen.resumed, seen.stopped.length, seen.errors.length], [0, 1, 0]);
});
