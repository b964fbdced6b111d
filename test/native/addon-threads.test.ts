/** What only Node has: worker threads that end with the addon in use, and exceptions in its callbacks. */
import { spawnSync } from 'node:child_process';
import { Worker } from 'node:worker_threads';
import t from 'tap';
import { buildAddon } from '../../build/addon.ts';
import { loadNativeAt } from '../../native/load.ts';

const addon = await buildAddon();
const native = loadNativeAt(addon);

/** Uses everything that the loop holds on to: a watch, a channel, a source half way, a sink with a queue, deferred ends. */
const BUSY = `
  const native = require(${JSON.stringify(addon)});
  const [left, right] = native.socketPair();
  const ended = () => {};
  const channel = native.channelOpen(left, { maxPayload: 65536, maxQueued: 1 << 20, onFrame: ended, onEnd: ended });
  const [reader, writer] = native.pipe('both', 0);
  native.write(writer, new Uint8Array(60000));
  native.sourceOpen(channel, 1, reader, 1 << 20, ended);
  const [drain, input] = native.pipe('both', 0);
  native.sinkOpen(channel, 2, input, 65536, -1, ended);
  const third = native.pipe('both', 0);
  native.sourceStop(native.sourceOpen(channel, 3, third[0], 0, ended));
  native.watch(writer, 2, ended);
  native.channelSend(channel, 1, 0, new Uint8Array(1000));
  const mine = [right, writer, drain, third[1]];
`;

function openDescriptors(): number {
  const fd = native.open('/proc/self/fd', 0o200000, 0);
  const count = native.readDirectory(fd).length;
  native.close(fd);
  return count;
}

/** Runs a worker to its end. */
function run(script: string, terminate: boolean): Promise<number> {
  const worker = new Worker(script, { eval: true });
  return new Promise((resolve, reject) => {
    worker.once('message', () => terminate && void worker.terminate());
    worker.once('error', reject);
    worker.once('exit', resolve);
  });
}

t.test('a worker may end in the middle of everything, and leaves no descriptor of a channel', async (t) => {
  const close = 'for (const fd of mine) { native.unwatch(fd); native.close(fd); }';
  await run(`${BUSY}; ${close}; process.exit(0)`, false); // what Node opens once for workers
  const before = openDescriptors();
  for (let round = 0; round < 5; round++) {
    t.equal(await run(`${BUSY}; ${close}; process.exit(7)`, false), 7, 'by exit');
    const waits = `${BUSY}; ${close}; native.watch(native.pipe('both', 0)[0], 1, () => {});`;
    t.equal(
      await run(`${waits}; require('node:worker_threads').parentPort.postMessage(1)`, true),
      1,
      'terminated',
    );
  }
  t.equal(openDescriptors(), before + 10, 'only the pipes that the scripts themselves left open');
});

t.test('threads have channels of their own', async (t) => {
  const script = `${BUSY}; require('node:worker_threads').parentPort.postMessage(1); process.exit(channel)`;
  const [left, right] = native.socketPair();
  const options = { maxPayload: 100, maxQueued: 100, onFrame: () => {}, onEnd: () => {} };
  const channel = native.channelOpen(left, options);
  t.equal(await run(script, false), 1, 'numbers start anew');
  t.equal(native.channelQueued(channel), 0, 'ours is still there');
  native.channelClose(channel);
  native.close(right);
});

t.test('an exception in a callback is an uncaught exception', (t) => {
  const throws = `() => { throw new Error('from the callback'); }`;
  const scripts = {
    watch: `native.watch(native.pipe('both', 0)[1], 2, ${throws})`,
    onEnd: `const [a, b] = native.socketPair();
      native.channelOpen(a, { maxPayload: 9, maxQueued: 9, onFrame() {}, onEnd: ${throws} }); native.close(b)`,
    drain: `const [a] = native.socketPair(); const [r, w] = native.pipe('both', 0);
      const channel = native.channelOpen(a, { maxPayload: 9, maxQueued: 9, onFrame() {}, onEnd() {} });
      native.sourceDrain(native.sourceOpen(channel, 1, r, 9, () => {}), ${throws})`,
  };
  for (const [name, script] of Object.entries(scripts)) {
    const source = `const native = require(${JSON.stringify(addon)}); ${script}`;
    const { status, stderr } = spawnSync(process.execPath, ['-e', source], {
      encoding: 'utf8',
      timeout: 120_000,
    });
    t.equal(status, 1, `${name}: exit code`);
    t.match(stderr, /Error: from the callback/, `${name}: stack`);
  }
  t.end();
});

t.test('watching keeps the process alive, unwatching lets it end', (t) => {
  const source = `const native = require(${JSON.stringify(addon)});
    const [r, w] = native.pipe('both', 0);
    native.watch(r, 1, () => { native.unwatch(r); console.log('event'); });
    setTimeout(() => native.write(w, new Uint8Array(1)), 50);`;
  const { status, stdout } = spawnSync(process.execPath, ['-e', source], {
    encoding: 'utf8',
    timeout: 120_000,
  });
  t.equal(status, 0, 'ends by itself');
  t.equal(stdout, 'event\n', 'after the event');
  t.end();
});
