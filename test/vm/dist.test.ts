/** The single program of `make dist`, from a folder that it cannot write, with nothing of the checkout beside it. */
import { chmodSync, copyFileSync, existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import t from 'tap';
import { privateEnvironment } from '../lib/vm.ts';
import { ACCEL, runCli } from '../lib/ya-vm.ts';

const BUILT = resolve(import.meta.dirname, '../../build/out/dist/ya-vm');
const skip = !existsSync(BUILT) && 'it is not built: make dist';

t.test('the single program', { skip }, async (t) => {
  const env = privateEnvironment(t);
  const folder = join(env.XDG_RUNTIME_DIR as string, 'program');
  mkdirSync(folder);
  const program = join(folder, 'ya-vm');
  copyFileSync(BUILT, program);
  chmodSync(folder, 0o555);
  t.teardown(() => chmodSync(folder, 0o755));
  const cache = join(env.XDG_RUNTIME_DIR as string, 'cache');
  const own = { ...env, XDG_CACHE_HOME: cache, YA_VM_ACCEL: 'tcg' };
  // The words after `sh -c` are the launcher's path, and what it is given.
  const through = ['sh', '-c', 'shift; exec "$0" "$@"', program];
  const run = (...words: string[]) => runCli(t, words, { env: own, through });

  await t.test('a command', async (t) => {
    t.match(await run('run', ...ACCEL, '--', 'true'), { code: 0, stderr: '' });
    t.equal(readdirSync(join(cache, 'ya-vm/dist')).length, 1, 'unpacked once');
  });

  await t.test('another kernel in the cache is not booted', async (t) => {
    const [id] = readdirSync(join(cache, 'ya-vm/dist')) as [string];
    writeFileSync(join(cache, 'ya-vm/dist', id, 'vmlinux'), 'no kernel');
    t.match(await run('run', ...ACCEL, '--', 'true'), { code: 0, stderr: '' });
  });

  await t.test('a provider: the offer, and an activity of its own', async (t) => {
    const offer = await run('offer-template');
    t.equal(offer.code, 0, offer.stderr);
    t.ok(JSON.parse(offer.stdout.toString()).properties);
    const script = join(env.XDG_RUNTIME_DIR as string, 'script.json');
    writeFileSync(
      script,
      JSON.stringify([
        { deploy: {} },
        { start: {} },
        { run: { entry_point: '/bin/true', args: [] } },
        { terminate: {} },
      ]),
    );
    const activity = await run('exec-script', ...ACCEL, script);
    t.equal(activity.code, 0, `it starts itself as the supervisor: ${activity.stderr}`);
  });

  await t.test('a home that cannot be written', async (t) => {
    const words = ['run', ...ACCEL, '--', 'true'];
    const result = await runCli(t, words, { env: { ...own, XDG_CACHE_HOME: '/proc' }, through });
    t.match(result, { code: 125, stderr: /YAVM_E_DIST_FOLDER/ });
  });

  rmSync(cache, { recursive: true });
});
