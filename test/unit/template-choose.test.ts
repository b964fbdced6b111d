/** Whether a VM starts from a template: what is there, what another is at, what has failed, and who insists. */
import { closeSync, mkdirSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { sleep } from '../../host/lib/deadline.ts';
import type { Logger } from '../../host/lib/logger.ts';
import { type ChooseOptions, chooseTemplate, startChoice } from '../../host/runtime/template/choose.ts';
import { type ColdFacts, type TemplateShape, templateKey } from '../../host/runtime/template/shape.ts';
import { TemplateStore } from '../../host/runtime/template/store.ts';
import { loadNative } from '../../native/load.ts';
import { recordingLogger } from '../lib/outbound-vm.ts';
import { putTemplate } from '../lib/templates.ts';

const native = loadNative();
const SHAPE: TemplateShape = {
  ...{ accel: 'tcg', cpuModel: 'max', cpus: 1, memoryMiB: 256 },
  assets: { kernel: '/no/kernel', initramfs: '/no/initramfs', manifest: '/no/manifest' },
};

/** Whatever is built here fails at once, for want of a kernel. */
function setting(t: Test) {
  const folder = t.testdir({ qemu: '', templates: {}, elsewhere: {} });
  const env = { YA_VM_TEMPLATES: join(folder, 'templates') };
  const qemu = join(folder, 'qemu');
  const { logger, records } = recordingLogger();
  const options: ChooseOptions = {
    ...{ env, native, qemu, runBase: join(folder, 'run'), bootDeadline: 200, insists: false },
    logger: logger as Logger,
    onBuilt: () => {},
  };
  const key = templateKey(SHAPE, qemu);
  const elsewhere = join(folder, 'elsewhere');
  const store = new TemplateStore(env);
  return { folder: env.YA_VM_TEMPLATES, elsewhere, env, options, records, key, store };
}

/** These and no others: a pattern of a list lets more of it pass. */
function areSaid(t: Test, records: readonly object[], patterns: object[]): void {
  t.equal(records.length, patterns.length);
  t.match(records, patterns);
}

const close = (template: { ram: number; state: number } | undefined) => {
  if (template === undefined) return;
  closeSync(template.ram);
  closeSync(template.state);
};

t.test('asked for, else the environment, else auto', async (t) => {
  t.equal(startChoice('cold', { YA_VM_START: 'template' }), 'cold');
  t.equal(startChoice(undefined, { YA_VM_START: 'template' }), 'template');
  t.equal(startChoice(undefined, { YA_VM_START: '' }), 'auto');
  t.equal(startChoice(undefined, {}), 'auto');
  t.throws(() => startChoice(undefined, { YA_VM_START: 'warm' }), { code: 'YAVM_E_USAGE', message: /warm/ });
});

t.test('one that is there is opened; who asks for a boot gets none', async (t) => {
  const { folder, options, records, key } = setting(t);
  await putTemplate(folder, key);
  const chosen = await chooseTemplate('auto', SHAPE, {}, options);
  t.match(chosen, { key, template: { record: { key } } });
  close(chosen?.template);
  t.equal(await chooseTemplate('cold', SHAPE, {}, options), null);
  t.strictSame(records, []);
});

t.test('a VM that none fits: it boots and says why once, or is an error for who insists', async (t) => {
  const rows: [ColdFacts, RegExp][] = [
    [{ kernelWords: ['a=b'] }, /words/],
    [{ shares: [{ hostPath: '/x', path: '/y' }] }, /folders/],
    [{ gpu: { kind: 'pci', slots: ['0000:01:00.0'] } }, /graphics/],
    [{ gpu: { kind: 'bochs' } }, /graphics/],
    [{ hugepages: '2M' }, /huge pages/],
    [{ userNetwork: {} }, /user network/],
  ];
  for (const [facts, reason] of rows) {
    const { folder, options, records, key } = setting(t);
    await putTemplate(folder, key);
    t.equal(await chooseTemplate('auto', SHAPE, facts, options), null);
    areSaid(t, records, [{ level: 'info', message: 'the VM boots', fields: { reason } }]);
    const why = { code: 'YAVM_E_TEMPLATE', message: reason };
    await t.rejects(chooseTemplate('template', SHAPE, facts, { ...options, insists: true }), why);
  }
});

t.test('a failure is remembered, and tried again by who insists', async (t) => {
  const { folder, options, records, store, key } = setting(t);
  t.equal(await chooseTemplate('auto', SHAPE, {}, options), null);
  const first = store.failure(key);
  t.type(first, 'string');
  t.equal(await chooseTemplate('auto', SHAPE, {}, options), null);
  t.match(records.at(-1), { fields: { reason: `it could not be made a while ago: ${first}` } });
  await t.rejects(chooseTemplate('template', SHAPE, {}, { ...options, insists: true }), {
    message: /^(?!.*a while ago)/,
  });
  t.strictSame(
    readdirSync(folder).filter((name) => name.startsWith('.')),
    [],
    'nothing is left of it',
  );
});

t.test('while another makes it: who can boot does not wait, who insists does, for a while', async (t) => {
  const { folder, elsewhere, options, records, store, key } = setting(t);
  const lock = store.lock(key, native);
  t.equal(await chooseTemplate('auto', SHAPE, {}, options), null);
  areSaid(t, records, [{ fields: { reason: 'another process is making the template' } }]);
  const insisting = { ...options, insists: true };
  await t.rejects(chooseTemplate('template', SHAPE, {}, insisting), { message: /another process/ });
  t.equal(store.failure(key), null, 'that is no failure');
  await putTemplate(elsewhere, key);
  const waiting = chooseTemplate('template', SHAPE, {}, { ...insisting, bootDeadline: 60_000 });
  await sleep(1);
  renameSync(join(elsewhere, key), join(folder, key));
  closeSync(lock as number);
  const chosen = await waiting;
  t.equal(chosen?.key, key);
  close(chosen?.template);
});

t.test('a signal ends the wait, with its reason, also for who could boot', async (t) => {
  const { options, store, key } = setting(t);
  const lock = store.lock(key, native);
  const given = new AbortController();
  const waiting = chooseTemplate(
    'template',
    SHAPE,
    {},
    {
      ...options,
      ...{ insists: true, bootDeadline: 60_000, signal: given.signal },
    },
  );
  given.abort(new Error('enough'));
  await t.rejects(waiting, { message: 'enough' });
  await t.rejects(chooseTemplate('auto', SHAPE, {}, { ...options, signal: given.signal }), {
    message: 'enough',
  });
  closeSync(lock as number);
});

t.test('the limit: by what one may take, not by its memory; 0 is said in its own words', async (t) => {
  const { folder, env, options, records, key } = setting(t);
  await putTemplate(folder, key);
  const limited = (YA_VM_TEMPLATES_LIMIT: string) => ({
    ...options,
    env: { ...env, YA_VM_TEMPLATES_LIMIT },
  });
  t.equal(await chooseTemplate('auto', SHAPE, {}, limited('100M')), null);
  t.match(records.pop(), { fields: { reason: /100 MiB in all.*may need 256 MiB/ } });
  t.equal(await chooseTemplate('auto', SHAPE, {}, limited('0')), null);
  t.match(records.pop(), { fields: { reason: 'YA_VM_TEMPLATES_LIMIT=0: no templates are made' } });
  const large = { ...SHAPE, memoryMiB: 16 * 1024 };
  await putTemplate(folder, templateKey(large, options.qemu), { memoryMiB: large.memoryMiB });
  const chosen = await chooseTemplate('auto', large, {}, limited('1G'));
  t.ok(chosen, '16 GiB of memory, most of it holes');
  close(chosen?.template);
});

t.test('a damaged one is dropped before another is tried', async (t) => {
  const { folder, options, records, key } = setting(t);
  await putTemplate(folder, key);
  writeFileSync(join(folder, key, 'state'), 'another state');
  t.equal(await chooseTemplate('auto', SHAPE, {}, options), null);
  areSaid(t, records, [{ level: 'warn', message: 'a template is dropped' }, { message: 'the VM boots' }]);
  t.notOk(readdirSync(folder).includes(key));
});

t.test('one of another shape under this name is dropped', async (t) => {
  const changes = { accel: 'kvm', cpuModel: 'host', cpus: 2, memoryMiB: 512 } as const;
  for (const [name, value] of Object.entries(changes)) {
    const { folder, options, records, key } = setting(t);
    await putTemplate(folder, key, { [name]: value });
    t.equal(await chooseTemplate('auto', SHAPE, {}, options), null);
    const cause = { message: new RegExp(`another ${name} than`) };
    areSaid(t, records, [{ level: 'warn', fields: { err: cause } }, { message: 'the VM boots' }]);
    t.notOk(readdirSync(folder).includes(key), name);
  }
});

t.test(
  'each start removes what builders that were killed have left, with the sockets of theirs',
  async (t) => {
    const { folder, elsewhere, options, key, store } = setting(t);
    await putTemplate(folder, key);
    const other = '9'.repeat(32);
    const socket = join(elsewhere, 'ya-vm-0123456789abcdef');
    const notes = { [key]: socket, [other]: elsewhere };
    for (const [left, note] of Object.entries(notes)) {
      mkdirSync(store.buildPath(left));
      writeFileSync(join(store.buildPath(left), 'socket-folder'), note);
    }
    mkdirSync(socket);
    const chosen = await chooseTemplate('auto', SHAPE, {}, options);
    t.equal(chosen?.key, key);
    close(chosen?.template);
    t.strictSame(
      readdirSync(folder).filter((name) => name.startsWith('.')),
      [],
    );
    t.strictSame(readdirSync(elsewhere), [], 'a folder of another form stays');
  },
);
