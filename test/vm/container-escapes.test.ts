/** Whatever a path, a link, an archive or a running task tries, a transfer reaches the task's root and nothing else. */
import t, { type Test } from 'tap';
import { withDeadline } from '../../host/lib/deadline.ts';
import type { Vm } from '../../host/runtime/index.ts';
import { CONTAINER_ESCAPES, type ContainerEscape } from '../lib/escapes-container.ts';
import { start } from '../lib/running.ts';
import { soak } from '../lib/scale.ts';
import { type Item, makeTar } from '../lib/tar.ts';
import { run, shell, startTestVm } from '../lib/vm.ts';

// The runner has a deadline for the whole file.
t.setTimeout(0);

const FAILED = 'YAVM_E_GUEST_FILE_FAILED';
const BAD_ARCHIVE = 'YAVM_E_GUEST_BAD_ARCHIVE';
/** Of a race against each target: three transfers each. */
const ROUNDS = soak ? 200 : 5;

/** The agent's own root, as far as it is files: what is in it, the layers, and of the writable disk what is not the task's root. */
const OUTSIDE = `cd /proc/1/root && find . -xdev -type f -exec sha256sum {} + && find . -xdev -exec stat -c '%n %f %u:%g %s %Y' {} + &&
  ls -la layers/0 && ls -A upper && ls -lR upper/work`;
/** The task's root without /jail, less what changes by itself. */
const ROOT = `cd / && find . -xdev '(' -path ./jail -o -path ./proc ')' -prune -o -exec stat -c '%n %f %u:%g %h %N' {} + | sort &&
  find . -xdev '(' -path ./jail -o -path ./proc ')' -prune -o -type f -exec sha256sum {} + | sort`;

t.test('a VM', async (t) => {
  const vm = await startTestVm(t);
  await t.test('the table of escapes', (t) => table(t, vm));
  await t.test('races', (t) => races(t, vm));
});

async function table(t: Test, vm: Vm): Promise<void> {
  t.ok(CONTAINER_ESCAPES.length >= 40, `${CONTAINER_ESCAPES.length} cases`);
  await shell(vm, 'mkdir -p /jail /l');
  for (const { plant } of CONTAINER_ESCAPES) if (plant) await shell(vm, plant);
  const outside = await shell(vm, OUTSIDE);
  const root = await shell(vm, ROOT);
  const writes = (row: ContainerEscape) => row.op === 'write' && 'reaches' in row.outcome;
  for (const row of CONTAINER_ESCAPES.filter((row) => !writes(row))) await attempt(t, vm, row);
  t.equal(await shell(vm, ROOT), root, 'nothing of the task’s root has changed');
  // What lands in the root, now that nothing else is to be compared with it.
  for (const row of CONTAINER_ESCAPES.filter(writes)) await attempt(t, vm, row);
  t.equal(await shell(vm, OUTSIDE), outside, 'nothing outside of it has changed');
  t.equal(await shell(vm, 'find / -xdev -name ".yavm-*"'), '', 'no temporary file is left');
}

async function attempt(t: Test, vm: Vm, row: ContainerEscape): Promise<void> {
  const { outcome, path, op, tar } = row;
  const name = `${op} ${tar ? 'a tar' : 'a file'}: ${row.what} (${path})`;
  const pieces: Buffer[] = [];
  // Written content is its own name, so that it is known where it lands.
  const content = Buffer.from(tar ? 'evil' : path);
  if (tar && op === 'write') await shell(vm, `rm -rf /jail; mkdir /jail; ${row.plant ?? 'true'}`);
  const work =
    op === 'read'
      ? vm.readFiles(path, (piece) => void pieces.push(Buffer.from(piece)), { format: tar ? 'tar' : 'file' })
      : vm.writeFiles(path, [tar ? makeTar(tar) : content], { format: tar ? 'tar' : 'file' });
  if ('refused' in outcome) {
    const error =
      outcome.refused === 'bad-archive'
        ? { code: BAD_ARCHIVE }
        : { code: FAILED, errno: new RegExp(`^(${outcome.refused})$`) };
    await t.rejects(work, error, name);
    return;
  }
  const error = await work.then(
    () => null,
    (error) => error,
  );
  if (error) return void t.error(error, name);
  if ('harmless' in outcome) return void t.pass(name);
  const there = await run(vm, ['cat', outcome.reaches]);
  t.equal(there.stdout.text, op === 'read' ? Buffer.concat(pieces).toString() : content.toString(), name);
}

/** A task that swaps a directory for a link to somewhere else, all the time, while files are written through its name. */
async function races(t: Test, vm: Vm): Promise<void> {
  await shell(vm, 'mkdir -p /race/other /race/spare; mkdir -p /victim; rm -rf /planted* /race/d');
  const outside = await shell(vm, OUTSIDE);
  for (const target of ['/proc/1/root', '/proc/self/fd/4', '/', '/victim', '../../../../victim', '..']) {
    // Fewest calls between the two: a directory that is moved away, and a link in its place.
    const swapping = await start(vm, [
      'sh',
      '-c',
      `cd /race; while :; do mkdir -p d; mv d spare/$((n += 1)); ln -s ${target} d; rm d; [ $((n % 50)) = 0 ] && rm -rf spare/*; done`,
    ]);
    const items: Item[] = Array.from({ length: 30 }, (_, index) => ({
      name: `d/planted-${index}`,
      content: Buffer.from('evil'),
    }));
    const tar = makeTar([...items, { name: 'd', type: 'directory', mode: 0o755, uid: 66 }]);
    let landed = 0;
    for (let round = 0; round < ROUNDS; round++) {
      const done = await Promise.allSettled([
        vm.writeFiles(`/race/d/planted-${round}`, [Buffer.from('evil')]),
        vm.writeFiles('/race', [tar], { format: 'tar' }),
        vm.writeFiles('/race/d/deep/er', [tar], { format: 'tar' }),
      ]);
      for (const one of done) {
        if (one.status === 'fulfilled') landed++;
        else
          t.match(one.reason, {
            code: FAILED,
            errno: /^(ENOENT|ENOTDIR|ELOOP|EEXIST|EISDIR|EAGAIN|ENOTEMPTY)$/,
          });
      }
    }
    t.comment(`${target}: ${landed} of ${3 * ROUNDS} landed`);
    await swapping.command.signal(9, { tree: true });
    await withDeadline(swapping.command.result, 30_000, 'the task that swaps');
    t.equal(await shell(vm, OUTSIDE), outside, `${target}: nothing outside has changed`);
    // The archive's directory was /race, or one below it: what is beside it in the root is not its to change.
    t.equal(
      await shell(vm, 'stat -c "%u %n" /victim / /etc'),
      '0 /victim\n0 /\n0 /etc\n',
      'nor is their owner another',
    );
    await shell(vm, 'rm -rf /race/d /race/spare /victim /planted* /deep; mkdir /race/spare /victim');
  }
}
