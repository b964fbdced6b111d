/** Templates on the disk: what is a template, what is none any more, and what goes when there are too many. */
import {
  closeSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { truncate } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { sparseChecksum } from '../../host/runtime/template/checksum.ts';
import { decodeRecord, readRecord, type TemplateRecord } from '../../host/runtime/template/record.ts';
import { TemplateStore } from '../../host/runtime/template/store.ts';
import { loadNative } from '../../native/load.ts';
import { templateKey as key, putTemplate, RAM_SIZE } from '../lib/templates.ts';

const native = loadNative();

function storeIn(folder: string, limit?: number): TemplateStore {
  return new TemplateStore({ YA_VM_TEMPLATES: folder, YA_VM_TEMPLATES_LIMIT: limit?.toString() });
}

const close = ({ ram, state }: { ram: number; state: number }) => {
  closeSync(ram);
  closeSync(state);
};

t.test('one that is whole is opened, listed and verified', async (t) => {
  const folder = t.testdir();
  const store = storeIn(folder);
  t.strictSame(store.list(), []);
  t.equal(store.open(key(1)), null);
  await putTemplate(folder, key(1));
  const opened = store.open(key(1));
  t.match(opened, { record: { key: key(1), hello: { agent: '1.2.3' } } });
  if (opened) close(opened);
  t.match(store.list(), [{ record: { key: key(1) } }]);
  t.equal(await store.verify(key(1)), null);
  t.equal(await store.verify(key(2)), 'it is not there');
});

t.test('one that has been touched is not opened', async (t) => {
  const harms: [string, (path: string) => void | Promise<void>, RegExp][] = [
    ['cut short', (path) => truncate(join(path, 'ram'), RAM_SIZE - 1), /'ram' has been changed/],
    ['a byte is another', (path) => flip(join(path, 'ram')), /'ram' has been changed/],
    ['and its time is set back', (path) => flip(join(path, 'ram'), true), /'ram' has been changed/],
    ['the state too', (path) => flip(join(path, 'state')), /'state' has been changed/],
    ['no record', (path) => writeFileSync(join(path, 'template.json'), ''), /JSON/],
    ['of another key', (path) => rename(path), /that of another/],
  ];
  for (const [what, harm, why] of harms) {
    const folder = t.testdir();
    await putTemplate(folder, key(1));
    await harm(join(folder, key(1)));
    const store = storeIn(folder);
    t.throws(() => store.open(key(1)), { code: 'YAVM_E_TEMPLATE', cause: { message: why } }, what);
    t.match(await store.verify(key(1)), why, `${what}: verified`);
  }
});

/** `hidden`: with the modification time that it had. */
function flip(path: string, hidden = false): void {
  const bytes = readFileSync(path);
  bytes[0] = (bytes[0] as number) ^ 1;
  const before = new Date(0);
  writeFileSync(path, bytes);
  if (hidden) utimesSync(path, before, before);
}

function rename(path: string): void {
  const file = join(path, 'template.json');
  writeFileSync(file, readFileSync(file, 'utf8').replaceAll(key(1), key(2)));
}

t.test('what was written to without a trace in its stamp is found by verify', async (t) => {
  const folder = t.testdir();
  const record = await putTemplate(folder, key(1));
  const lying = { ...record, ram: { ...record.ram, sha256: '0'.repeat(64) } };
  writeFileSync(join(folder, key(1), 'template.json'), JSON.stringify(lying));
  t.match(await storeIn(folder).verify(key(1)), /content of its file 'ram' has changed/);
});

t.test('those not used for longest go first, damaged ones always', async (t) => {
  const folder = t.testdir();
  for (const index of [1, 2, 3]) {
    await putTemplate(folder, key(index));
    const used = new Date(2026, 0, index);
    utimesSync(join(folder, key(index), 'template.json'), used, used);
  }
  mkdirSync(join(folder, key(4)));
  const [size = 0] = storeIn(folder)
    .list()
    .map((each) => each.size);
  t.ok(size > 0);
  const opened = storeIn(folder).open(key(1));
  if (opened) close(opened);
  t.strictSame(storeIn(folder, 2 * size).prune(key(1)), [key(4), key(2)], 'opening it made it the last used');
  t.strictSame(readdirSync(folder).sort(), [key(1), key(3)]);
  t.strictSame(storeIn(folder, 1).prune(key(1)), [key(3)], 'the one that was just made stays');
});

t.test('what a builder that was killed has left is removed, what one is at is not', async (t) => {
  const folder = t.testdir();
  const store = storeIn(folder);
  for (const index of [1, 2]) {
    mkdirSync(join(folder, `.${key(index)}`));
    writeFileSync(join(folder, `.${key(index)}`, 'ram'), 'half');
  }
  const lock = store.lock(key(1), native);
  t.not(lock, null);
  t.equal(store.lock(key(1), native), null, 'one at a time');
  store.clean(native);
  t.ok(existsSync(join(folder, `.${key(1)}`, 'ram')));
  t.notOk(existsSync(join(folder, `.${key(2)}`)));
  t.strictSame(store.list(), [], 'neither is a template');
  closeSync(lock as number);
  store.clean(native);
  t.notOk(existsSync(join(folder, `.${key(1)}`)));
});

t.test('a failure is remembered for a while, and forgotten with a drop', async (t) => {
  const folder = t.testdir();
  const store = storeIn(folder);
  t.equal(store.failure(key(1)), null);
  store.noteFailure(key(1), 'no room');
  t.equal(store.failure(key(1)), 'no room');
  const long = new Date(Date.now() - 3_600_000);
  utimesSync(join(folder, `${key(1)}.failed`), long, long);
  t.equal(store.failure(key(1)), null);
  store.noteFailure(key(1), 'again');
  store.drop(key(1));
  t.equal(store.failure(key(1)), null);
});

t.test('the limit', async (t) => {
  t.equal(new TemplateStore({ YA_VM_TEMPLATES: '/x' }).limit, 4 * 1024 ** 3);
  t.equal(new TemplateStore({ YA_VM_TEMPLATES: '/x', YA_VM_TEMPLATES_LIMIT: '1G' }).limit, 1024 ** 3);
  t.equal(new TemplateStore({ YA_VM_TEMPLATES: '/x', YA_VM_TEMPLATES_LIMIT: '0' }).limit, 0);
  t.throws(() => new TemplateStore({ YA_VM_TEMPLATES_LIMIT: 'much' }), { code: 'YAVM_E_USAGE' });
  t.equal(
    new TemplateStore({ XDG_CACHE_HOME: '/c', YA_VM_TEMPLATES: 'relative' }).folder,
    '/c/ya-vm/templates',
  );
});

t.test('a record is taken only as it is written', async (t) => {
  const folder = t.testdir();
  const record: TemplateRecord = await putTemplate(folder, key(1));
  t.strictSame(readRecord(join(folder, key(1), 'template.json')), record);
  const wrongs: [string, unknown][] = [
    ['no object', null],
    ['a list', [record]],
    ['no key', { ...record, key: '../../etc' }],
    ['another accelerator', { ...record, accel: 'hvf' }],
    ['memory', { ...record, memoryMiB: -1 }],
    ['a hello of no guest', { ...record, hello: {} }],
    ['no stamp', { ...record, ram: { sha256: 'ab' } }],
    ['no size', { ...record, state: { ...record.state, stamp: { ...record.state.stamp, size: 0 } } }],
    ['no checksum', { ...record, state: { ...record.state, sha256: 'xyz' } }],
  ];
  for (const [what, value] of wrongs) t.throws(() => decodeRecord(value), Error, what);
});

t.test('holes and zeros have the same checksum', async (t) => {
  const folder = t.testdir();
  const [dense, sparse] = [join(folder, 'dense'), join(folder, 'sparse')];
  const bytes = Buffer.alloc(200_000);
  bytes[70_000] = 1;
  writeFileSync(dense, bytes);
  writeFileSync(sparse, bytes.subarray(0, 70_001));
  await truncate(sparse, bytes.length);
  t.equal(await sparseChecksum(dense), await sparseChecksum(sparse));
  bytes[70_000] = 0;
  bytes[5000] = 1;
  writeFileSync(sparse, bytes);
  t.not(await sparseChecksum(dense), await sparseChecksum(sparse));
  await t.rejects(sparseChecksum(dense, AbortSignal.abort(new Error('enough'))), /enough/);
});
