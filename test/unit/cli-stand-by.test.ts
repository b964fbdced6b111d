/** A supervisor that is started before its activity: it waits, goes on, or ends without a trace. */
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { standBy } from '../../host/cli/stand-by.ts';
import { startActivity } from '../../host/cli/vm.ts';
import { silentLogger } from '../../host/lib/logger.ts';
import { eventually } from '../lib/running.ts';

/** Says that it was let go, and with which words, and stays. */
const WAITER = 'cat >/dev/null; echo "$@" >"$XDG_RUNTIME_DIR/began"; exec sleep 600';

function scene(t: Test) {
  const top = mkdtempSync(join(tmpdir(), 'yavm-stand-by-'));
  const env = { PATH: process.env.PATH, XDG_RUNTIME_DIR: top, XDG_CACHE_HOME: join(top, 'cache') };
  const standing = standBy(
    { env, log: silentLogger },
    { accel: 'tcg', program: ['/bin/sh', '-c', WAITER, 'sh'] },
  );
  t.teardown(async () => {
    standing.supervisor.child.kill('SIGKILL');
    await standing.supervisor.ended;
    rmSync(top, { recursive: true, force: true });
  });
  return { top, standing, began: join(top, 'began') };
}

t.test('it waits until it is let go', async (t) => {
  const { standing, began } = scene(t);
  const { place, child } = standing.supervisor;
  t.ok(existsSync(place.workFolder));
  t.notOk(existsSync(place.agreementFile), 'that comes later');
  t.notOk(existsSync(began));
  standing.supervisor.go();
  await eventually('it began', () => existsSync(began));
  t.equal(child.exitCode, null);
});

t.test('what nobody takes leaves nothing', async (t) => {
  const { standing } = scene(t);
  const { run, work } = standing.places;
  t.ok(existsSync(run.path) && existsSync(work.path));
  await standing.end();
  t.same(await standing.supervisor.ended, { code: null, signal: 'SIGKILL' });
  t.notOk(existsSync(run.path));
  t.notOk(existsSync(work.path));
});

t.test('what is taken is left to who took it', async (t) => {
  const { standing } = scene(t);
  standing.taken = true;
  await standing.end();
  t.equal(standing.supervisor.child.signalCode, null);
  t.ok(existsSync(standing.places.run.path));
});

t.test('a program that is not there is an end like another', async (t) => {
  const top = mkdtempSync(join(tmpdir(), 'yavm-stand-by-'));
  t.teardown(() => rmSync(top, { recursive: true, force: true }));
  const env = { XDG_RUNTIME_DIR: top, XDG_CACHE_HOME: join(top, 'cache') };
  const standing = standBy({ env, log: silentLogger }, { accel: 'tcg', program: ['/nonexistent/ya-vm'] });
  t.same(await standing.supervisor.ended, { code: null, signal: null });
  t.match(standing.supervisor.failure(), { code: 'ENOENT' });
  await standing.end();
  t.same(readdirSync(join(top, 'cache', 'ya-vm', 'activities')), []);
});

t.test('`run` has one stand by, and others none', async (t) => {
  t.equal(startActivity.standBy, standBy);
});
