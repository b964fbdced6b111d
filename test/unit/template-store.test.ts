/** Templates on the disk: what is a template, what is none any more, and what goes when there are too many. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import {
  closeSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import t from 'tap';
import { sparseChecksum } from '../../host/runtime/template/checksum.ts';
import { decodeRecord, readRecord, type TemplateRecord } from '../../host/runtime/template/record.ts';
import { renewalOf, whyDue } from '../../host/runtime/template/renewal.ts';
import { TemplateStore } from '../../host/runtime/template/store.ts';
import { loadNative } from '../../native/load.ts';
import { count } from '../lib/scale.ts';
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

t.test('when one is to be made anew', async (t) => {
  const none = { age: null, starts: null };
  t.same(renewalOf({}), none, 'by default never');
  t.same(renewalOf({ YA_VM_TEMPLATES_RENEW: '', YA_VM_TEMPLATES_RENEW_STARTS: '' }), none);
  const both = renewalOf({ YA_VM_TEMPLATES_RENEW: '1d12h', YA_VM_TEMPLATES_RENEW_STARTS: '500' });
  t.same(both, { age: 36 * HOUR, starts: 500 });
  for (const YA_VM_TEMPLATES_RENEW of ['24', 'often', '-1h', '0s', '999d', '24 ']) {
    t.throws(() => renewalOf({ YA_VM_TEMPLATES_RENEW }), { code: 'YAVM_E_USAGE' }, YA_VM_TEMPLATES_RENEW);
  }
  for (const YA_VM_TEMPLATES_RENEW_STARTS of ['0', '-5', '1.5', '1e3', 'many', '1000001', '99999999']) {
    const env = { YA_VM_TEMPLATES_RENEW_STARTS };
    t.throws(() => renewalOf(env), { code: 'YAVM_E_USAGE' }, YA_VM_TEMPLATES_RENEW_STARTS);
  }
  const made = '2026-01-01T00:00:00.000Z';
  const at = (hours: number) => Date.parse(made) + hours * HOUR;
  t.equal(whyDue(none, { made, starts: 1_000_000 }, at(10_000)), null);
  t.equal(whyDue(both, { made, starts: 499 }, at(35.9)), null);
  t.equal(whyDue(both, { made, starts: 500 }, at(0)), '500 VMs have started from it');
  t.equal(whyDue(both, { made, starts: 0 }, at(36)), 'it is 1 d 12 h old');
  t.match(whyDue(both, { made, starts: 0 }, at(-1)), /yet to come/, 'the clock was set back');
  t.match(whyDue(both, { made: 'today', starts: 0 }, at(1)), /yet to come/, 'a time that is none');
});

const HOUR = 3_600_000;

t.test('starts are counted beside the files, which stay as they are', async (t) => {
  const folder = t.testdir();
  await putTemplate(folder, key(1));
  const env = { YA_VM_TEMPLATES: folder, YA_VM_TEMPLATES_RENEW_STARTS: '3' };
  const store = new TemplateStore(env);
  t.match(store.list(), [{ starts: 0, due: null }]);
  for (let start = 1; start <= 3; start++) {
    t.equal(store.due(key(1)), null);
    store.countStart(key(1));
    t.equal(new TemplateStore(env).starts(key(1)), start);
  }
  const why = '3 VMs have started from it';
  t.equal(store.due(key(1)), why);
  t.match(store.list(), [{ starts: 3, due: why }]);
  t.equal(storeIn(folder).due(key(1)), null, 'only where it is asked for');
  const opened = store.open(key(1));
  t.ok(opened, 'it is as good as it was');
  if (opened) close(opened);
  t.equal(await store.verify(key(1)), null);
  store.countStart(key(2));
  t.notOk(store.has(key(2)), 'one that was dropped does not come back');
  t.equal(store.due(key(2)), null);
  writeFileSync(join(folder, key(1), 'starts'), '');
  await truncate(join(folder, key(1), 'starts'), 1_000_000);
  store.countStart(key(1));
  t.equal(store.starts(key(1)), 1_000_000, 'bounded');
});

t.test('one made anew takes the place of the old one, and who has that keeps it', async (t) => {
  const folder = t.testdir();
  const cannot = { exchange: () => assert.fail('EINVAL') };
  for (const [what, exchanger] of Object.entries({ 'at once': native, 'one after the other': cannot })) {
    const store = storeIn(folder);
    rmSync(folder, { recursive: true });
    mkdirSync(folder);
    await putTemplate(folder, key(1));
    store.countStart(key(1));
    store.noteFailure(key(1), 'once');
    const old = store.open(key(1));
    await putBuilt(folder, store);
    store.put(key(1), exchanger);
    t.strictSame(readdirSync(folder), [key(1)], `${what}: nothing else is left`);
    const now = store.open(key(1));
    t.equal(now?.record.kernel, '6.2.0', what);
    t.equal(old?.record.kernel, '6.1.0');
    t.equal(store.starts(key(1)), 0, 'counted from its making');
    const text = Buffer.alloc(9);
    readSync(old?.state ?? -1, text, 0, 9, 0);
    t.equal(text.toString(), 'the state');
    for (const each of [old, now]) if (each) close(each);
    store.drop(key(1));
    await putBuilt(folder, store);
    store.put(key(1), exchanger);
    t.match(store.list(), [{ record: { kernel: '6.2.0' } }], 'and where there was none');
  }
});

t.test('whoever opens one while it is made anew finds it', async (t) => {
  const folder = t.testdir();
  const store = storeIn(folder);
  await putTemplate(folder, key(1));
  const stop = new Int32Array(new SharedArrayBuffer(4));
  const opener = new Worker(new URL('../lib/template-opener.ts', import.meta.url), {
    workerData: { folder, key: key(1), stop },
  });
  await once(opener, 'message');
  for (let round = 0; round < count(2000); round++) {
    await putBuilt(folder, store);
    store.put(key(1), native);
  }
  const [{ opened, missed }] = await Promise.all([
    once(opener, 'message').then(([said]) => said as { opened: number; missed: number }),
    Atomics.store(stop, 0, 1),
  ]);
  t.equal(missed, 0, `of ${opened} times`);
  t.ok(opened > 0);
});

/** One that has just been built, of another kernel. */
async function putBuilt(folder: string, store: TemplateStore): Promise<void> {
  const elsewhere = join(folder, 'elsewhere');
  mkdirSync(elsewhere);
  const record = await putTemplate(elsewhere, key(1));
  writeFileSync(join(elsewhere, key(1), 'template.json'), JSON.stringify({ ...record, kernel: '6.2.0' }));
  renameSync(join(elsewhere, key(1)), store.buildPath(key(1)));
  rmSync(elsewhere, { recursive: true });
}

t.test('a folder that is none is named, with what helps', async (t) => {
  const file = join(t.testdir({ file: '' }), 'file');
  const store = storeIn(file);
  const error = { code: 'YAVM_E_TEMPLATE', message: /cannot be read/, hint: /YA_VM_TEMPLATES/ };
  t.throws(() => store.list(), error);
  t.throws(() => store.keys(), error);
  t.equal(store.open(key(1)), null);
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
