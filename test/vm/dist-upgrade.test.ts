/**
 * A newer ya-vm comes over an older one that has an activity and a VM: as dpkg does it, a new file under the old name. Both
 * end well, each with its own kernel, and nothing is left.
 */
import { copyFileSync, readdirSync, readlinkSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { perform, setUp, sh } from '../lib/exe-unit-activity.ts';
import { roomFor, SUPERVISOR_ENDS } from '../lib/in-time.ts';
import { notPackaged, OLDER_VERSION, PROGRAM, writeOlderProgram } from '../lib/packaged.ts';
import { findProcesses, findQemu, waitUntil } from '../lib/processes.ts';
import { ACCEL, runCli, startCli } from '../lib/ya-vm.ts';

const skip = notPackaged();

t.setTimeout(0);
t.test(
  'a newer program comes while the older one has an activity and a VM',
  { skip, timeout: 500_000 },
  async (t) => {
    const home = t.testdir({});
    const program = join(home, 'ya-vm');
    writeOlderProgram(program);
    const { begin, environment, folder, vms } = await setUp(t, undefined, { program });
    // The words after `sh -c` are the launcher's path, and what it is given.
    const cli = { env: environment, through: ['sh', '-c', 'shift; exec "$0" "$@"', program] };
    const version = async () =>
      JSON.parse((await runCli(t, ['version', '--json'], cli)).stdout.toString())['ya-vm'];
    t.equal(await version(), OLDER_VERSION);

    const older = await begin();
    await perform(older.requestor, [{ deploy: {} }, { start: {} }]);
    const [olderVm] = vms();
    const batch = await older.requestor.exec([sh('while ! test -e /go; do sleep 0.1; done; echo older')]);
    const run = startCli(t, ['run', '-i', ...ACCEL, '--', 'sh', '-c', 'echo ready; cat'], {
      ...cli,
      input: 'open',
    });
    await run.says('ready');

    copyFileSync(PROGRAM, `${program}.new`);
    renameSync(`${program}.new`, program);
    t.not(await version(), OLDER_VERSION, 'the newer one is there');
    t.match(readlinkSync(`/proc/${older.activity.pid}/exe`), / \(deleted\)$/, 'the older one runs');

    const newer = await begin();
    t.match(await perform(newer.requestor, [{ deploy: {} }, { start: {} }, sh('echo newer')]), [
      { ok: true },
      { ok: true },
      { ok: true, stdout: 'newer\n' },
    ]);
    t.equal(findQemu(vms()).length, 3, 'two activities and a VM');
    const other = await runCli(t, ['run', ...ACCEL, '--', 'echo', 'newer'], cli);
    t.match(other, { code: 0, stderr: '' });
    const listed = await runCli(t, ['ps', '--json'], cli);
    t.equal(JSON.parse(listed.stdout.toString()).length, 3, "the newer one sees the older one's VMs");
    const kernels = readdirSync(join(environment.XDG_CACHE_HOME as string, 'ya-vm/dist'));
    t.equal(kernels.length, 2, 'each has unpacked its own kernel');

    // The older one reads parts of itself that it had not needed yet, and boots again.
    const [inOlder] = await Promise.all([
      older.requestor.finished(batch),
      runCli(t, ['shell', olderVm as string, '-c', 'touch /go'], cli),
    ]);
    t.match(inOlder, [{ ok: true, stdout: 'older\n' }]);
    t.match(
      await perform(older.requestor, [{ terminate: {} }, { deploy: {} }, { start: {} }, sh('echo again')]),
      [{}, {}, {}, { ok: true, stdout: 'again\n' }],
    );
    run.child.stdin?.end('its last words');
    t.match(await run.ended(), { code: 0, stderr: '' });
    t.match(run.stdout.toString(), /^ready\nits last words$/);

    const ids = vms();
    for (const { activity } of [older, newer])
      t.same(await activity.stop(SUPERVISOR_ENDS), { code: 0, signal: null });
    t.not(await waitUntil(() => findQemu(ids).length === 0, roomFor(5000)), null);
    t.same(vms(), [], 'no run folder');
    t.same(findProcesses(`XDG_RUNTIME_DIR=${folder}`), [], 'no process');
  },
);
