import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { silentLogger } from '../../host/lib/logger.ts';
import { startTimeOf } from '../../host/lib/process.ts';
import { cleanUp } from '../../host/runtime/janitor.ts';
import { createRunFolder, takeLock } from '../../host/runtime/run-folder.ts';
import { loadNative } from '../../native/load.ts';
import { fakeRecord } from '../lib/fake-qemu.ts';

const native = loadNative();

function base(t: { teardown(fn: () => void): void }): string {
  const folder = mkdtempSync(join(tmpdir(), 'yavm-run-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return join(folder, 'ya-vm');
}

/** A process that has ended. */
async function deadProcess(): Promise<{ pid: number; startTime: number }> {
  const child = spawn('/bin/sleep', ['100']);
  const pid = child.pid as number;
  const startTime = startTimeOf(pid) as number;
  child.kill('SIGKILL');
  await once(child, 'exit');
  return { pid, startTime };
}

t.test('a run folder is private, and its record is written whole', async (t) => {
  const parent = base(t);
  const folder = createRunFolder(parent, native);
  t.match(folder.id, /^([bdfghjklmnprstvz][aeiou]){4}$/);
  t.equal(folder.path, join(parent, folder.id));
  t.equal(lstatSync(parent).mode & 0o777, 0o700);
  t.equal(lstatSync(folder.path).mode & 0o777, 0o700);
  folder.write({ ...fakeRecord(), id: folder.id });
  folder.write({ ...fakeRecord(), id: folder.id, state: 'running' });
  t.match(JSON.parse(readFileSync(join(folder.path, 'vm.json'), 'utf8')), {
    id: folder.id,
    state: 'running',
  });
  t.strictSame(readdirSync(folder.path).sort(), ['lock', 'vm.json']);
  folder.remove();
  folder.remove();
  t.doesNotThrow(() => folder.write(fakeRecord()), 'a late write goes nowhere');
  t.strictSame(readdirSync(parent), []);
});

t.test("somebody else's folder is not used", async (t) => {
  const parent = base(t);
  const other = `${parent}-other`;
  mkdirSync(other, { mode: 0o777 });
  symlinkSync(other, parent);
  t.throws(() => createRunFolder(parent, native), {
    code: 'YAVM_E_RUN_FOLDER',
    message: /not a directory of this user/,
  });
  writeFileSync(`${parent}-file`, '');
  t.throws(() => createRunFolder(`${parent}-file`, native), { code: 'YAVM_E_RUN_FOLDER' });
});

t.test('the janitor leaves what is in use, and removes what is not', async (t) => {
  const parent = base(t);
  const inUse = createRunFolder(parent, native);
  inUse.write({ ...fakeRecord(), supervisor: await deadProcess() });
  const debris = (name: string, record?: object) => {
    mkdirSync(join(parent, name));
    writeFileSync(join(parent, name, 'attach.sock'), '');
    if (record) writeFileSync(join(parent, name, 'vm.json'), JSON.stringify(record));
  };
  debris('empty');
  debris('damaged', 'text' as unknown as object);
  debris('dead', { ...fakeRecord(), supervisor: await deadProcess(), qemu: await deadProcess() });
  const self = { pid: process.pid, startTime: startTimeOf(process.pid) };
  debris('alive', { ...fakeRecord(), supervisor: self });
  debris('recycled', { ...fakeRecord(), supervisor: { ...self, startTime: 1 } });
  writeFileSync(join(parent, 'a-file'), '');
  t.strictSame(cleanUp(parent, native, silentLogger).sort(), ['damaged', 'dead', 'empty', 'recycled']);
  t.strictSame(readdirSync(parent).sort(), ['a-file', 'alive', inUse.id].sort());
  t.strictSame(cleanUp(join(parent, 'not', 'there'), native, silentLogger), []);
  inUse.remove();
});

t.test('an orphaned QEMU is ended; no other process is', async (t) => {
  const parent = base(t);
  const folder = mkdtempSync(join(tmpdir(), 'yavm-bin-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const program = join(folder, 'qemu-system-x86_64');
  symlinkSync('/bin/sleep', program);
  const start = (file: string) => {
    const child = spawn(file, ['100']);
    t.teardown(() => void child.kill('SIGKILL'));
    return {
      child,
      identity: { pid: child.pid as number, startTime: startTimeOf(child.pid as number) as number },
    };
  };
  const [qemu, other, stranger] = [start(program), start('/bin/sleep'), start(program)];
  const supervisor = await deadProcess();
  const leave = (name: string, identity: object) => {
    mkdirSync(join(parent, name), { recursive: true });
    writeFileSync(
      join(parent, name, 'vm.json'),
      JSON.stringify({ ...fakeRecord(), supervisor, qemu: identity }),
    );
  };
  leave('orphan', qemu.identity);
  leave('no-qemu', other.identity);
  leave('recycled', { ...stranger.identity, startTime: stranger.identity.startTime - 1 });
  const ended = once(qemu.child, 'exit');
  cleanUp(parent, native, silentLogger);
  t.strictSame((await ended)[1], 'SIGKILL');
  t.ok(startTimeOf(other.identity.pid) && startTimeOf(stranger.identity.pid));
  t.strictSame(readdirSync(parent), []);
});

t.test('the lock goes with its holder, and is not taken on a folder that was removed', async (t) => {
  const parent = base(t);
  const folder = createRunFolder(parent, native);
  t.equal(takeLock(folder.path, native), null, 'held');
  folder.remove();
  t.equal(takeLock(folder.path, native), null, 'gone');
  t.notOk(existsSync(folder.path));
});
