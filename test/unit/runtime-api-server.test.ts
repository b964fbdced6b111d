/** The server's rules: order, introduction, ends, a reader that does not read, bytes that make no sense. */
import { PassThrough } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import t from 'tap';
import { deferred } from '../../host/lib/deferred.ts';
import { YavmError } from '../../host/lib/errors.ts';
import { silentLogger } from '../../host/lib/logger.ts';
import { GuestRequestError } from '../../host/runtime/guest-errors.ts';
import {
  type ApiRuntime,
  ApiServer,
  type ProcessEnd,
  type ProcessSinks,
  type ServeEnd,
} from '../../host/runtime-api/server.ts';
import { ApiClient, encodeRequest } from '../lib/api-client.ts';

interface Process {
  bin: string;
  sinks: ProcessSinks;
  end: ReturnType<typeof deferred<ProcessEnd>>;
  signals: number[];
}

interface Fake {
  api: ApiClient;
  input: PassThrough;
  output: PassThrough;
  processes: Process[];
  serving: Promise<ServeEnd>;
  /** Held: a run request waits for it. */
  hold: { gate: Promise<void> | null; error: Error | null };
  stops: number;
  death: ReturnType<typeof deferred<Error | null>>;
  server: ApiServer;
}

function serve(signal?: AbortSignal): Fake {
  const [input, output] = [new PassThrough(), new PassThrough()];
  const death = deferred<Error | null>();
  const processes: Process[] = [];
  const hold: Fake['hold'] = { gate: null, error: null };
  const server = new ApiServer({ input, output, version: '1.2.3', logger: silentLogger });
  const runtime: ApiRuntime = {
    ended: death.promise,
    async run({ bin }, sinks) {
      const process = { bin, sinks, end: deferred<ProcessEnd>(), signals: [] as number[] };
      processes.push(process);
      await hold.gate;
      if (hold.error) throw hold.error;
      return {
        pid: 700 + processes.length,
        ended: process.end.promise,
        signal: async (number) => void process.signals.push(number),
      };
    },
    network: async () => ({ kind: 'udp-datagram', address: '127.0.0.1:1' }),
    async stop() {
      fake.stops++;
      death.resolve(null);
    },
  };
  const fake: Fake = {
    api: new ApiClient(input, output),
    ...{ input, output, processes, hold, death, server, stops: 0 },
    serving: server.serve(runtime, signal),
  };
  return fake;
}

/** What came, in short. */
function shape({ api }: Fake): string[] {
  return api.messages.map(({ id, event, status, error, ...body }) => {
    if (error) return `${id} error ${error.code}`;
    if (!event) return `${id} ${Object.keys(body)[0]}`;
    const { pid, running, stdout, stderr, returnCode } = status ?? {};
    return `${pid} ${running ? '' : `end ${returnCode} `}${stdout}${stderr}`.trim();
  });
}

const text = (words: string) => Buffer.from(words);

t.test('a process: answered, introduced, then heard of, then ended; nothing behind', async (t) => {
  const fake = serve();
  const gate = deferred<void>();
  fake.hold.gate = gate.promise;
  fake.api.send({ run: { bin: '/a', args: ['a'] } });
  while (fake.processes.length === 0) await turn();
  const [process] = fake.processes as [Process];
  // Output overtakes the answer: the guest's ports have no order between them.
  const early = process.sinks.stdout(text('early'));
  await turn();
  t.strictSame(shape(fake), []);
  gate.resolve();
  await early;
  await process.sinks.stderr(text('err'));
  process.end.resolve({ returnCode: 3, remark: 'odd' });
  t.match(await fake.api.end(1), { returnCode: 3, stdout: 'early', stderr: 'errya-vm: odd\n' });
  await process.sinks.stdout(text('late'));
  await fake.api.call({ hello: { version: 'x' } });
  t.strictSame(shape(fake), ['2 run', '1', '1 early', '1 err', '1 end 3 ya-vm: odd', '3 hello']);
  fake.api.close();
  await fake.serving;
});

t.test('while a run request is answered, other processes are not heard', async (t) => {
  const fake = serve();
  await fake.api.call({ run: { bin: '/a' } });
  const gate = deferred<void>();
  fake.hold.gate = gate.promise;
  fake.api.send({ run: { bin: '/b' } });
  while (fake.processes.length < 2) await turn();
  const [first] = fake.processes as [Process];
  const said = first.sinks.stdout(text('one'));
  first.end.resolve({ returnCode: 0 });
  await turn();
  t.strictSame(shape(fake), ['2 run', '1']);
  gate.resolve();
  await said;
  await fake.api.end(1);
  t.strictSame(shape(fake), ['2 run', '1', '3 run', '2', '1 one', '1 end 0']);
  fake.api.close();
  await fake.serving;
});

t.test('a run that fails: its answer says so, and nothing more comes of it', async (t) => {
  const fake = serve();
  const wire = { code: 'spawn-failed', message: 'no such program', errno: 'ENOENT', path: '/a' } as const;
  fake.hold.error = new GuestRequestError('run', wire);
  t.match(await fake.api.call({ run: { bin: '/a' } }), {
    error: { code: 1, message: 'no such program (YAVM_E_GUEST_SPAWN_FAILED)' },
  });
  await (fake.processes[0] as Process).sinks.stdout(text('ghost'));
  fake.hold.error = new YavmError('YAVM_E_GUEST_TIMEOUT', 'stuck', { hint: 'Wait.' });
  t.match(await fake.api.call({ run: { bin: '/a' } }), {
    error: { code: 0, message: 'stuck (YAVM_E_GUEST_TIMEOUT)' },
  });
  t.equal(fake.api.messages.length, 2);
  fake.api.close();
  await fake.serving;
});

t.test('kill: the signal, SIGKILL without one; what cannot be is refused', async (t) => {
  const fake = serve();
  await fake.api.call({ run: { bin: '/a' } });
  await fake.api.call({ kill: { pid: 1, signal: 15 } });
  await fake.api.call({ kill: { pid: 1 } });
  t.strictSame(fake.processes[0]?.signals, [15, 9]);
  t.match(await fake.api.call({ kill: { pid: 2 } }), { error: { code: 1 } });
  t.match(await fake.api.call({ kill: { pid: 1, signal: -3 } }), { error: { code: 2 } });
  t.match(await fake.api.call({ kill: { pid: 1, signal: 65 } }), { error: { code: 2 } });
  fake.api.close();
  await fake.serving;
});

t.test('requests that make no sense are refused, one by one, by their number', async (t) => {
  const fake = serve();
  fake.input.write(Buffer.from([0]));
  fake.input.write(Buffer.from([2, 0x08, 0x09]));
  fake.input.write(Buffer.from([4, 0x08, 0x0a, 0x52, 0x7f]));
  fake.input.write(encodeRequest(11, { run: { bin: Buffer.from([0xff]) } }));
  fake.input.write(encodeRequest(12, { hello: {}, shutdown: {} }));
  fake.input.write(encodeRequest(13, { network: { interface: 7 } }));
  const huge = encodeRequest(14, { run: { bin: 'x'.repeat(2 ** 20) } });
  fake.input.write(huge);
  await fake.api.message(({ id }) => id === 14, 'the last refusal');
  t.strictSame(
    shape(fake),
    [0, 9, 10, 11, 12, 13, 14].map((id) => `${id} error 2`),
  );
  t.match(fake.api.messages[3]?.error?.message, /bin is not UTF-8 \(YAVM_E_RUNTIME_REQUEST\)/);
  t.match(await fake.api.call({ hello: {} }), { hello: { version: '1.2.3' } }, 'and it goes on');
  fake.api.close();
  await fake.serving;
});

t.test('what is no stream of frames ends it, with an error', async (t) => {
  const fake = serve();
  fake.input.write(Buffer.alloc(6, 0xff));
  t.match(await fake.serving, { reason: 'failed', error: { code: 'YAVM_E_RUNTIME_FRAME' } });
  t.match(fake.api.messages, [{ id: 0, error: { code: 0, message: /YAVM_E_RUNTIME_FRAME/ } }]);
  t.equal(fake.stops, 1);
});

t.test('shutdown: stopped before it is answered, and the answer is the last word', async (t) => {
  const fake = serve();
  await fake.api.call({ run: { bin: '/a' } });
  const answer = fake.api.call({ shutdown: {} });
  await answer;
  t.ok(fake.stops > 0);
  const [process] = fake.processes as [Process];
  process.end.reject(new Error('the VM was stopped'));
  t.match(await fake.serving, { reason: 'shutdown' });
  await process.sinks.stdout(text('late'));
  t.strictSame(shape(fake), ['2 run', '1', '3 shutdown']);
});

t.test('requests that came before the end of the input are served', async (t) => {
  const fake = serve();
  fake.api.send({ hello: {} });
  fake.api.send({ shutdown: {} });
  fake.api.close();
  t.match(await fake.serving, { reason: 'shutdown' });
  t.strictSame(shape(fake), ['2 hello', '3 shutdown']);
});

t.test('the end of the input ends it, even while a request hangs', async (t) => {
  const fake = serve();
  fake.hold.gate = new Promise(() => {});
  fake.api.send({ run: { bin: '/a' } });
  fake.api.close();
  t.match(await fake.serving, { reason: 'input-closed' });
  t.equal(fake.stops, 1);
});

t.test('nobody reads the output any more', async (t) => {
  const fake = serve();
  fake.output.destroy();
  t.match(await fake.serving, { reason: 'output-closed' });
  t.equal(fake.stops, 1);
});

t.test('a signal', async (t) => {
  const interrupt = new AbortController();
  const fake = serve(interrupt.signal);
  await fake.api.call({ hello: {} });
  interrupt.abort();
  t.match(await fake.serving, { reason: 'interrupted' });
  t.equal(fake.stops, 1);
});

t.test('the VM dies: its processes end with the reason, then it is over', async (t) => {
  const fake = serve();
  await fake.api.call({ run: { bin: '/a' } });
  const error = new YavmError('YAVM_E_QEMU_DIED', 'QEMU died', { hint: 'Look.' });
  fake.processes[0]?.end.reject(error);
  fake.death.resolve(error);
  t.match(await fake.serving, { reason: 'failed', error });
  t.match(await fake.api.end(1), { returnCode: 125, stderr: 'ya-vm: QEMU died (YAVM_E_QEMU_DIED)\n' });
});

t.test('a supervisor that does not read slows the process, and memory stays', async (t) => {
  const [input, output] = [new PassThrough(), new PassThrough({ highWaterMark: 1024 })];
  const started = deferred<ProcessSinks>();
  const death = deferred<Error | null>();
  const server = new ApiServer({ input, output, version: '1', logger: silentLogger });
  const serving = server.serve({
    ended: death.promise,
    run: async (_, sinks) => {
      started.resolve(sinks);
      return { pid: 1, ended: new Promise(() => {}), signal: async () => {} };
    },
    network: async () => ({ kind: 'udp-datagram', address: '' }),
    stop: async () => death.resolve(null),
  });
  input.write(encodeRequest(2, { run: { bin: '/a' } }));
  const sinks = await started.promise;
  let taken = 0;
  const pour = (async () => {
    for (let piece = 0; piece < 50; piece++) {
      await sinks.stdout(Buffer.alloc(64 * 1024));
      taken++;
    }
  })();
  for (let round = 0; round < 50; round++) await turn();
  t.ok(taken < 3, `${taken} pieces were taken while nobody read`);
  output.resume();
  await pour;
  t.equal(taken, 50);
  input.end();
  await serving;
});

t.test('what the start has running is told with pid 0, and never ends', async (t) => {
  const fake = serve();
  await fake.server.announce('{"start":null}');
  await fake.server.startSinks.stderr(text('E'));
  await fake.api.call({ hello: {} });
  t.strictSame(shape(fake), ['0 {"start":null}', '0 E', '2 hello']);
  fake.api.close();
  await fake.serving;
});
