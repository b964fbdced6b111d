import { EventEmitter } from 'node:events';
import { PassThrough } from 'node:stream';
import t from 'tap';
import { Interrupted, Interrupts, type SignalSource } from '../../host/cli/interrupts.ts';
import {
  DETACH_KEYS,
  ESCAPE_KEY,
  enterRawMode,
  KeyScanner,
  onResize,
  restoreTerminals,
  windowSize,
} from '../../host/cli/terminal.ts';

const text = (bytes: Uint8Array) => Buffer.from(bytes).toString('latin1');

t.test('keys that leave are found, also when typed one by one, and swallowed', async (t) => {
  const scanner = new KeyScanner(DETACH_KEYS);
  const scan = (keys: string) => {
    const { pass, found } = scanner.scan(Buffer.from(keys, 'latin1'));
    return [text(pass), found];
  };
  t.same(scan('ls\n'), ['ls\n', false]);
  t.same(scan('a\x10'), ['a', false], 'held back');
  t.same(scan('b'), ['\x10b', false], 'passed on: it was no sequence');
  t.same(scan('\x10\x10'), ['\x10', false], 'the second may begin one');
  t.same(scan('\x11rest'), ['', true]);
  t.same(scan('x\x10\x11y'), ['x', true]);
  t.same(scan('\x11'), ['\x11', false], 'the second key alone is nothing');
});

t.test('a sequence of one key needs no holding back', async (t) => {
  const scanner = new KeyScanner(ESCAPE_KEY);
  const { pass, found } = scanner.scan(Buffer.from('ab\x1dcd'));
  t.same([text(pass), found], ['ab', true]);
});

t.test('raw mode is undone once, by whoever comes first', async (t) => {
  const modes: boolean[] = [];
  const stdin = Object.assign(new PassThrough(), {
    isTTY: true,
    setRawMode: (raw: boolean) => modes.push(raw),
  });
  const restore = enterRawMode(stdin);
  restoreTerminals();
  restore();
  restoreTerminals();
  t.same(modes, [true, false]);
  enterRawMode(
    Object.assign(new PassThrough(), {
      setRawMode: (raw: boolean) => {
        if (!raw) throw new Error('EIO');
      },
    }),
  );
  restoreTerminals();
  t.pass('a terminal that is gone stops nothing');
});

t.test('the window has a size, and tells of changes until it is left', async (t) => {
  const stdout = Object.assign(new PassThrough(), { rows: 0, columns: 0 });
  t.same(windowSize(stdout), { rows: 24, columns: 80 });
  const sizes: object[] = [];
  const stop = onResize(stdout, (size) => sizes.push(size));
  Object.assign(stdout, { rows: 50, columns: 120 });
  stdout.emit('resize');
  stop();
  stdout.emit('resize');
  t.same(sizes, [{ rows: 50, columns: 120 }]);
});

function interrupts(
  t: { teardown(fn: () => void): void },
  grace?: number,
): { source: EventEmitter; signals: Interrupts } {
  const source = new EventEmitter();
  const signals = new Interrupts(source as unknown as SignalSource, grace);
  t.teardown(() => signals.close());
  return { source, signals };
}

t.test('before the command starts a signal ends the start', async (t) => {
  const { source, signals } = interrupts(t);
  source.emit('SIGTERM');
  t.equal(signals.signal.aborted, true);
  t.type(signals.signal.reason, Interrupted);
  t.match(signals.signal.reason, { signal: 'SIGTERM', exitCode: 143 });
});

t.test('the first signal goes to the command, the second ends the VM', async (t) => {
  const { source, signals } = interrupts(t);
  const forwarded: number[] = [];
  signals.attach({ forward: (signal) => forwarded.push(signal) });
  source.emit('SIGINT');
  t.same(forwarded, [2]);
  t.equal(signals.signal.aborted, false);
  source.emit('SIGINT');
  t.same(forwarded, [2]);
  t.match(signals.signal.reason, { signal: 'SIGINT', exitCode: 130 });
});

t.test('after SIGTERM the command has its grace, after SIGINT all the time', async (t) => {
  const table = [
    ['SIGTERM', true],
    ['SIGHUP', true],
    ['SIGINT', false],
    ['SIGQUIT', false],
  ] as const;
  for (const [signal, ends] of table) {
    const { source, signals } = interrupts(t, 30);
    signals.attach({ forward: () => {} });
    source.emit(signal);
    t.equal(signals.signal.aborted, false, `${signal} at first`);
    await new Promise((resolve) => setTimeout(resolve, 60));
    t.equal(signals.signal.aborted, ends, `${signal} after the grace`);
  }
});

t.test('closed, signals have their default again', async (t) => {
  const { source, signals } = interrupts(t);
  signals.close();
  t.equal(source.eventNames().length, 0);
  t.equal(source.emit('SIGINT'), false);
});
