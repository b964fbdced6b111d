/** The program as people use it: in processes of its own, on terminals and in pipes. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setInterval } from 'node:timers/promises';
import t from 'tap';
import { isAlive, type ProcessIdentity } from '../../host/lib/process.ts';
import { tookAtMost } from '../lib/in-time.ts';
import { eventually } from '../lib/running.ts';
import { type Owner, privateEnvironment } from '../lib/vm.ts';
import { LAUNCHER } from '../lib/ya-vm.ts';

/** Longest that one call may take, milliseconds: a boot under TCG on a busy machine and some more. */
const DEADLINE = 90_000;

/** A test's own limit, for several boots. The layer's ends what goes beyond. */
const LONG = { timeout: 5 * DEADLINE };

interface Call {
  code: number | null;
  stdout: Buffer;
  stderr: string;
}

type Environment = Record<string, string | undefined>;

/** A program that runs, and what it wrote so far. */
class Running {
  readonly child: ChildProcess;
  readonly ended: Promise<Call>;
  stdout = Buffer.alloc(0);
  stderr = '';
  #changed: (() => void)[] = [];

  constructor(t: Owner, words: string[], env: Environment) {
    this.child = spawn(words[0] as string, words.slice(1), { env });
    const timer = setTimeout(() => this.child.kill('SIGKILL'), DEADLINE);
    this.child.stdin?.on('error', () => {});
    this.child.stdout?.on('data', (chunk: Buffer) => {
      this.stdout = Buffer.concat([this.stdout, chunk]);
      this.#wake();
    });
    this.child.stderr?.on('data', (chunk: Buffer) => {
      this.stderr += chunk;
      this.#wake();
    });
    this.ended = new Promise((resolve, reject) => {
      this.child.once('error', reject);
      this.child.once('close', (code) => {
        clearTimeout(timer);
        this.#wake();
        resolve({ code, stdout: this.stdout, stderr: this.stderr });
      });
    });
    t.teardown(() => void this.child.kill('SIGKILL'));
  }

  /** Waits until standard output holds `text`, after what an earlier wait found. @throws when the program ends first. */
  async shows(text: string | RegExp): Promise<void> {
    for (;;) {
      const found = this.stdout
        .toString()
        .search(text instanceof RegExp ? text : new RegExp(literally(text)));
      if (found >= 0) return;
      if (this.child.exitCode !== null || this.child.signalCode !== null) {
        throw new Error(`it ended before it wrote ${text}: ${this.stdout} ${this.stderr}`);
      }
      await new Promise<void>((resolve) => this.#changed.push(resolve));
    }
  }

  type(keys: string): void {
    this.child.stdin?.write(keys);
  }

  #wake(): void {
    for (const wake of this.#changed.splice(0)) wake();
  }
}

function literally(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}

const start = (t: Owner, env: Environment, ...words: string[]) => new Running(t, [LAUNCHER, ...words], env);
const call = (t: Owner, env: Environment, ...words: string[]) => start(t, env, ...words).ended;

/** On a terminal of its own: script(1) makes one. What comes out of it is standard output and error together. */
function onTerminal(t: Owner, env: Environment, ...words: string[]): Running {
  const line = [LAUNCHER, ...words].map((word) => `'${word}'`).join(' ');
  return new Running(t, ['script', '-qfec', `stty rows 33 cols 99; ${line}`, '/dev/null'], {
    ...env,
    TERM: 'xterm',
    SHELL: '/bin/sh',
  });
}

async function onlyVm(
  t: Owner,
  env: Environment,
): Promise<{ id: string; qemu: ProcessIdentity; supervisor: ProcessIdentity; console: string }> {
  const { stdout } = await call(t, env, 'ps', '--json');
  return JSON.parse(stdout.toString())[0];
}

t.setTimeout(6 * LONG.timeout);

t.test(
  'into pipes go the bytes of the command, its exit code is ours, and nothing is left',
  LONG,
  async (t) => {
    const env = privateEnvironment(t);
    const running = start(
      t,
      env,
      'run',
      '-i',
      '--env',
      'A=b c',
      '--',
      'sh',
      '-c',
      'cat; echo "$A" >&2; exit 42',
    );
    const bytes = Buffer.from(Array.from({ length: 200_000 }, (_, index) => (index * 7) % 256));
    running.child.stdin?.end(bytes);
    const { code, stdout, stderr } = await running.ended;
    t.equal(code, 42);
    t.equal(sha(stdout), sha(bytes));
    t.equal(stderr, 'b c\n');
    const base = join(env.XDG_RUNTIME_DIR as string, 'ya-vm');
    t.same(readdirSync(base), []);
  },
);

t.test('a command that is not there, a time limit, a reader that leaves', LONG, async (t) => {
  const env = privateEnvironment(t);
  const missing = await call(t, env, 'run', '--', 'no-such-command');
  t.equal(missing.code, 127);
  t.match(missing.stderr, /^ya-vm: .*no-such-command.*\(YAVM_E_GUEST_SPAWN_FAILED\)\n/);

  const limited = await call(
    t,
    env,
    'run',
    '--timeout',
    '1s',
    '--json',
    '--',
    'sh',
    '-c',
    'echo on; sleep 100',
  );
  t.equal(limited.code, 124);
  t.equal(limited.stdout.toString(), 'on\n');
  t.match(JSON.parse(limited.stderr.trimEnd().split('\n').at(-1) as string), {
    timedOut: true,
    exitCode: 124,
  });

  const left = start(t, env, 'run', '--', 'yes');
  await left.shows('y\n');
  left.child.stdout?.destroy();
  t.equal((await left.ended).code, 141);
});

t.test(
  'on a terminal: phases, a shell with window size and Ctrl-C, other shells beside it',
  LONG,
  async (t) => {
    const env = privateEnvironment(t);
    const main = onTerminal(t, env, 'run', '-it', '--name', 'the main one', '--', 'sh');
    await main.shows(/tcg \d.* · (kernel .* · agent|restore) .* · file systems .* in all/);
    await main.shows('/ # ');
    main.type('stty size\r');
    await main.shows('33 99');
    // Said by the program that Ctrl-C is for: while the shell still starts it, the key may hit the shell alone.
    main.type("sh -c 'echo waiting; exec sleep 1000'\r");
    await main.shows('\nwaiting\r\n');
    main.type('\u0003');
    main.type('echo "code $?"\r');
    await main.shows('code 130');

    const { stdout } = await call(t, env, 'ps');
    t.match(stdout.toString(), /^ID .*TITLE\n\w{8} +running .*the main one\n$/);
    const { id } = await onlyVm(t, env);

    const inside = await call(
      t,
      env,
      'shell',
      id.slice(0, 5),
      '--env',
      'X=1',
      '-c',
      'echo "$X $HOME $SHELL"; exit 5',
    );
    t.equal(inside.code, 5);
    t.equal(inside.stdout.toString(), '1 /root /bin/sh\n');

    const second = onTerminal(t, env, 'shell', id);
    await second.shows('# ');
    second.type('stty size; sleep 12345 & echo "in""deed"\r');
    await second.shows('33 99');
    await second.shows('indeed');
    second.type('\u0010\u0011');
    await second.shows('left the shell');
    t.equal((await second.ended).code, 0);
    const detached = await call(t, env, 'shell', id, '-c', 'ps | grep -c "[s]leep 12345"');
    t.equal(detached.stdout.toString(), '1\n', 'it goes on after it was left');

    const third = start(t, env, 'shell', id, '-c', 'sleep 54321');
    const running = async () => {
      const { stdout } = await call(t, env, 'shell', id, '-c', 'ps | grep -c "[s]leep 54321"');
      return Number(stdout.toString());
    };
    await eventually('it runs', async () => (await running()) > 0);
    third.child.kill('SIGKILL');
    await third.ended;
    await eventually(
      'what a client ran ends with a client that was killed',
      async () => (await running()) === 0,
    );

    const stats = await call(t, env, 'stats', '--json', id);
    t.match(JSON.parse(stats.stdout.toString()), { id, processes: Number, memory: { total: Number } });

    main.type('exit 7\r');
    await main.shows(/command .* · exit code 7/);
    t.equal((await main.ended).code, 7);
  },
);

t.test(
  'the console shows what the guest writes there, and takes what is typed; stop ends the VM',
  async (t) => {
    const env = privateEnvironment(t);
    const main = start(t, env, 'run', '--', 'sh', '-c', 'echo up; sleep 1000');
    await main.shows('up\n');
    const { id, supervisor, qemu, console } = await onlyVm(t, env);
    t.ok(existsSync(console));

    const terminal = onTerminal(t, env, 'console', id);
    await terminal.shows('Ctrl-] leaves');
    await call(t, env, 'shell', id, '-c', 'echo to the console > /dev/console');
    await terminal.shows('to the console');
    terminal.type('\u001d');
    await terminal.shows('left the console');
    t.equal((await terminal.ended).code, 0);
    t.match((await call(t, env, 'console', '--log', id)).stdout.toString(), /to the console/);

    const stopped = await call(t, env, 'stop', id);
    t.equal(stopped.code, 0);
    t.equal(stopped.stdout.toString(), `${id}\n`);
    t.equal((await main.ended).code, 143);
    t.equal(isAlive(supervisor) || isAlive(qemu), false);
  },
);

t.test(
  'SIGTERM during the start ends it; the death of QEMU is told within a second, the terminal restored',
  async (t) => {
    const env = privateEnvironment(t);
    const early = start(t, env, 'run', '--', 'sleep', '60');
    // Until it listens to signals they end it as any program: by the signal, not with its code.
    const vms = join(env.XDG_RUNTIME_DIR as string, 'ya-vm');
    for await (const _ of setInterval(20)) {
      if (early.child.exitCode !== null || (existsSync(vms) && readdirSync(vms).length > 0)) break;
    }
    early.child.kill('SIGTERM');
    const { code, stderr } = await early.ended;
    t.equal(code, 143, stderr);
    t.match(stderr, 'ended by SIGTERM; the VM was ended', 'not its command');

    const line = `stty -a | md5sum; '${LAUNCHER}' run -it -- sh; echo "code $?"; stty -a | md5sum`;
    const main = new Running(t, ['script', '-qfec', line, '/dev/null'], {
      ...env,
      TERM: 'xterm',
      SHELL: '/bin/sh',
    });
    await main.shows('/ # ');
    const { qemu } = await onlyVm(t, env);
    const began = performance.now();
    process.kill(qemu.pid, 'SIGKILL');
    await main.shows('code 125');
    tookAtMost(t, 'the news', performance.now() - began, 1000);
    await main.ended;
    t.match(main.stdout.toString(), /YAVM_E_QEMU_DIED/);
    const modes = main.stdout.toString().match(/[0-9a-f]{32}/g);
    t.equal(modes?.length, 2);
    t.equal(modes?.[0], modes?.[1]);
  },
);

function sha(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
