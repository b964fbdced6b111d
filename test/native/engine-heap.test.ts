/** The JS heap of the engine: what is in it stays intact, what is freed goes back, what is collected is gone. */
import t from 'tap';
import { Random } from '../lib/random.ts';
import { count } from '../lib/scale.ts';
import { linesOf, runScript } from './engine-host.ts';

async function output(source: string): Promise<string[]> {
  const result = await runScript(source);
  if (result.code !== 0) throw new Error(`ended with ${result.code ?? result.signal}:\n${result.stderr}`);
  return linesOf(result);
}

/** In a script: resident memory of this process, bytes, from /proc/self/statm. */
const RESIDENT = `
  function resident() {
    const fd = yavmNative.open('/proc/self/statm', 0, 0);
    const bytes = new Uint8Array(128);
    const text = new TextDecoder().decode(bytes.subarray(0, yavmNative.read(fd, bytes)));
    yavmNative.close(fd);
    return Number(text.split(' ')[1]) * 4096;
  }`;

t.test('blocks of all sizes keep their contents while others come, grow, shrink and go', async (t) => {
  const random = new Random();
  t.comment(`seed ${random.seed}`);
  const lines = await output(`
    let state = ${random.seed};
    const next = (limit) => { state = (state * 1103515245 + 12345) & 0x7fffffff; return (state >> 8) % limit; };
    const make = [
      (n) => ({ size: n, check: n * 3 }),
      (n) => 'x'.repeat(n % 3000) + n,
      (n) => Array.from({ length: n % 200 }, (_, index) => index + n),
      (n) => new Uint8Array(n % 5000).fill(n),
      (n) => { const array = []; for (let index = 0; index < n % 900; index++) array.push(index * n); return array; },
      (n) => new Map([[n, 'é'.repeat(n % 500)]]),
    ];
    const intact = [
      (v, n) => v.size === n && v.check === n * 3,
      (v, n) => v === 'x'.repeat(n % 3000) + n,
      (v, n) => v.length === n % 200 && v.every((item, index) => item === index + n),
      (v, n) => v.length === n % 5000 && v.every((byte) => byte === (n & 255)),
      (v, n) => v.length === n % 900 && v.every((item, index) => item === index * n),
      (v, n) => v.get(n) === 'é'.repeat(n % 500),
    ];
    const held = new Array(300);
    let checks = 0;
    for (let round = 0; round < ${count(200_000)}; round++) {
      const slot = next(held.length);
      if (held[slot]) {
        const [kind, number, value] = held[slot];
        if (!intact[kind](value, number)) throw new Error('damaged: ' + kind + ' ' + number);
        checks++;
      }
      const kind = next(make.length);
      const number = next(100000);
      held[slot] = next(3) === 0 ? undefined : [kind, number, make[kind](number)];
      if (next(500) === 0) yavmEngine.collectGarbage();
    }
    console.log(checks > 1000);
  `);
  t.same(lines, ['true']);
});

t.test('memory of freed objects goes back to the system', async (t) => {
  const [before, full, after] = (
    await output(`${RESIDENT}
    console.log(resident());
    let many = Array.from({ length: 60000 }, (_, index) => ({ index, text: 'text ' + index }));
    console.log(resident());
    many = null;
    console.log(resident());
  `)
  ).map(Number) as [number, number, number];
  const [grown, kept] = [full - before, after - before];
  t.ok(grown > 5e6, `60,000 objects take ${grown} bytes`);
  t.ok(kept < grown / 8, `${kept} bytes are kept of ${grown}`);
});

t.test('large buffers come and go without trace', async (t) => {
  const [before, after] = (
    await output(`${RESIDENT}
    for (let round = 0; round < 50; round++) new Uint8Array(256 * 1024).fill(round);
    console.log(resident());
    for (let round = 0; round < 2000; round++) new Uint8Array(256 * 1024).fill(round);
    console.log(resident());
  `)
  ).map(Number) as [number, number];
  t.ok(after - before < 100_000, `${after - before} bytes more`);
});

t.test('cycles are collected on their own, and weak references see it', async (t) => {
  const lines = await output(`
    const weak = (() => { const a = {}; a.self = a; return new WeakRef(a); })();
    const registry = new FinalizationRegistry((name) => console.log('finalized ' + name));
    (() => { const b = {}; b.self = b; registry.register(b, 'b'); })();
    let rounds = 0;
    while (weak.deref() && rounds < 1e6) { const one = {}; one.two = { one }; rounds++; }
    console.log(rounds < 1e6, yavmEngine.heapUsed < 3e6);
    yavmEngine.collectGarbage(); // The registry learns of a death in the collection after it.
  `);
  t.same(lines, ['true true', 'finalized b']);
});
