/** The engine's event loop, timers and microtasks. */
import t from 'tap';
import { linesOf, runScript } from './engine-host.ts';

async function output(source: string): Promise<string[]> {
  const result = await runScript(source);
  if (result.code !== 0) throw new Error(`ended with ${result.code ?? result.signal}:\n${result.stderr}`);
  return linesOf(result);
}

t.test('timers fire by due time, then in the order in which they were set', async (t) => {
  const lines = await output(`
    const say = (text) => console.log(text);
    setTimeout(say, 30, 'thirty');
    setTimeout(say, 5, 'five');
    setTimeout(say, 0, 'zero is one');
    setTimeout(say, 1, 'one');
    setTimeout(say, -5, 'negative is one');
    setTimeout(say, NaN, 'NaN is one');
    setTimeout(say, 2 ** 31, 'too long is one');
    for (let index = 0; index < 100; index++) setTimeout(say, 10, 'ten ' + index);
    setTimeout((...args) => say(args.join('+')), 20, 1, 2, 3);
  `);
  t.same(lines, [
    'zero is one',
    'one',
    'negative is one',
    'NaN is one',
    'too long is one',
    'five',
    ...Array.from({ length: 100 }, (_, index) => `ten ${index}`),
    '1+2+3',
    'thirty',
  ]);
});

t.test('timers are never early, and the loop sleeps until they are due', async (t) => {
  const [late, cpu] = await output(`
    const started = yavmNative.monotonic();
    let worst = 0;
    for (const delay of [1, 7, 20, 50, 120]) {
      setTimeout(() => { worst = Math.min(worst, yavmNative.monotonic() - started - delay); }, delay);
    }
    function ticks() {
      const fd = yavmNative.open('/proc/self/stat', 0, 0);
      const bytes = new Uint8Array(1024);
      const text = new TextDecoder().decode(bytes.subarray(0, yavmNative.read(fd, bytes)));
      yavmNative.close(fd);
      const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
      return Number(fields[11]) + Number(fields[12]); // utime + stime, ticks of 10 ms
    }
    const before = ticks();
    setTimeout(() => {
      console.log(worst);
      console.log(ticks() - before);
    }, 1000);
  `);
  t.equal(Number(late), 0, 'no timer fired before its time');
  // One that looks again and again takes nearly all 100, or what others leave of them.
  t.ok(Number(cpu) <= 10, `used ${cpu} ticks of CPU in a second`);
});

t.test(
  'a timer can be cleared: before, by another, from its own callback; ids that are none do nothing',
  async (t) => {
    const lines = await output(`
    clearTimeout(setTimeout(() => console.log('cleared'), 1));
    const victim = setTimeout(() => console.log('victim'), 5);
    setTimeout(() => clearTimeout(victim), 2);
    let count = 0;
    const interval = setInterval((word) => {
      console.log(word + ' ' + ++count);
      if (count === 3) clearInterval(interval);
    }, 2, 'tick');
    for (const id of [undefined, null, -1, 0, 1.5, 1e12, 'x', {}]) clearTimeout(id);
    const many = [];
    for (let index = 0; index < 1000; index++) many.push(setTimeout(() => console.log('many'), 3 + index % 7));
    for (const id of many.reverse()) clearTimeout(id);
  `);
    t.same(lines, ['tick 1', 'tick 2', 'tick 3']);
  },
);

t.test('microtasks run after each callback, before the next one', async (t) => {
  const lines = await output(`
    const say = (text) => () => console.log(text);
    setTimeout(() => {
      console.log('first timer');
      Promise.resolve().then(say('first promise'));
      queueMicrotask(() => { console.log('first microtask'); queueMicrotask(say('nested')); });
    }, 1);
    setTimeout(say('second timer'), 1);
    queueMicrotask(say('microtask of the script'));
    Promise.resolve().then(say('promise of the script'));
    (async () => { await null; console.log('async'); })();
    console.log('script');
  `);
  t.same(lines, [
    'script',
    'microtask of the script',
    'promise of the script',
    'async',
    'first timer',
    'first promise',
    'first microtask',
    'nested',
    'second timer',
  ]);
});

t.test('no event reaches a descriptor that a callback of the same batch unwatched', async (t) => {
  const lines = await output(`
    const native = yavmNative;
    const pipes = Array.from({ length: 20 }, () => native.pipe('read', 0));
    let calls = 0;
    for (const [read, write] of pipes) {
      native.watch(read, 1, () => {
        calls++;
        for (const [other] of pipes) native.unwatch(other);
      });
      native.write(write, new Uint8Array(1));
    }
    setTimeout(() => console.log(calls), 20);
  `);
  t.same(lines, ['1']);
});

t.test('no event of a closed descriptor reaches the one that has its number now', async (t) => {
  const lines = await output(`
    const native = yavmNative;
    const [a, aWrite] = native.pipe('read', 0);
    const [b, bWrite] = native.pipe('read', 0);
    native.write(aWrite, new Uint8Array(1));
    native.write(bWrite, new Uint8Array(1));
    const replace = (mine, other, name) => () => {
      console.log(name);
      native.unwatch(mine);
      native.unwatch(other);
      native.close(other);
      const [read, write] = native.pipe('read', 0);
      console.log(read === other ? 'same number' : 'other number');
      native.watch(read, 1, () => console.log('false event'));
      setTimeout(() => { native.unwatch(read); native.close(read); native.close(write); }, 20);
    };
    native.watch(a, 1, replace(a, b, 'called'));
    native.watch(b, 1, replace(b, a, 'called'));
  `);
  t.same(lines, ['called', 'same number']);
});

t.test('a second watch replaces the first; hang-up and errors come as both events', async (t) => {
  const lines = await output(`
    const native = yavmNative;
    const [read, write] = native.pipe('both', 0);
    native.watch(write, 2, () => console.log('replaced'));
    native.watch(write, 2, (events) => {
      console.log('writable ' + events);
      native.unwatch(write);
      native.close(read);
      native.watch(write, 2, (events) => {
        console.log('reader gone ' + events);
        native.unwatch(write);
        native.close(write);
      });
    });
  `);
  t.same(lines, ['writable 2', 'reader gone 3']);
});

t.test('a program ends when nothing can call back any more', async (t) => {
  const watched = await runScript(
    'yavmNative.watch(yavmNative.pipe("none", 0)[1], 2, () => {}); setTimeout(() => yavmEngine.exit(7), 20);',
  );
  t.equal(watched.code, 7, 'a watch keeps it');
  const idle = await runScript('new Promise(() => {});');
  t.equal(idle.code, 0, 'a promise does not');
});

t.test('console describes values, and its sink gets them', async (t) => {
  const lines = await output(`
    console.log('text', 1, -0, 1n, true, null, undefined, Symbol('s'), { a: [1] }, [1, 'x']);
    console.error(new RangeError('bad', { cause: new Error('why') }).toString());
    const circular = {}; circular.self = circular;
    console.log(circular, function named() {}.name);
    const seen = [];
    yavmEngine.setConsole((level, text) => { seen.push(level + ':' + text); console.log('from the sink'); });
    console.debug('d'); console.info('i'); console.log('l'); console.warn('w'); console.error('e', 1);
    yavmEngine.setConsole(() => { throw new Error('sink'); });
    console.log('still printed');
    yavmEngine.setConsole(undefined);
    console.log(seen.join(' '));
  `);
  t.same(lines, [
    'text 1 0 1 true null undefined Symbol(s) {"a":[1]} [1,"x"]',
    'RangeError: bad',
    '[object Object] named',
    ...Array(5).fill('from the sink'),
    'still printed',
    'debug:d info:i info:l warn:w error:e 1',
  ]);
});

t.test('the engine tells its version and arguments', async (t) => {
  const result = await runScript(
    'console.log(yavmEngine.version, JSON.stringify(yavmEngine.args.slice(1)))',
    {
      args: ['--role', 'files', 'wörd'],
    },
  );
  t.match(result.stderr, /^\d+\.\d+\.\d+ \["--role","files","wörd"\]\n$/);
});
