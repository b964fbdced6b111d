/** The descriptor's life in plugin folders of all kinds. */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { runProgram } from '../../host/cli/program.ts';
import {
  DEFAULT_PATTERN,
  listDescriptors,
  matches,
  type PluginPlace,
  parseExeUnitPath,
  readDescriptors,
} from '../../host/provider/descriptor.ts';
import { install, isInstalled, uninstall } from '../../host/provider/install.ts';
import { installPlace, providerPlace } from '../../host/provider/places.ts';
import { testContext } from '../lib/cli.ts';

const top = mkdtempSync(join(tmpdir(), 'yavm-provider-'));
t.teardown(() => rmSync(top, { recursive: true, force: true }));

let places = 0;
function plugins(files: Record<string, unknown> = {}): PluginPlace {
  const folder = join(top, `plugins${places++}`);
  mkdirSync(folder);
  for (const [name, content] of Object.entries(files)) {
    writeFileSync(join(folder, name), typeof content === 'string' ? content : JSON.stringify(content));
  }
  return { folder, pattern: DEFAULT_PATTERN };
}

const UPSTREAM = [
  {
    name: 'vm',
    version: '0.5.2',
    'supervisor-path': 'exe-unit',
    'runtime-path': 'ya-runtime-vm/ya-runtime-vm',
    'extra-args': ['--cap-handoff'],
  },
];
const WASM = { name: 'wasmtime', version: '0.2.1', 'supervisor-path': 'exe-unit', 'runtime-path': 'x' };
const options = { version: '0.1.0', supervisor: '/opt/ya-vm/ya-vm', replace: false };
const names = ({ folder }: PluginPlace) =>
  readdirSync(folder)
    .filter((name) => !name.startsWith('.'))
    .sort();

t.test('an empty place: the descriptor that the provider needs', async (t) => {
  const place = { folder: join(top, 'not', 'there', 'yet'), pattern: DEFAULT_PATTERN };
  const result = install({ ...options, place });
  t.strictSame(result, {
    descriptor: join(place.folder, 'ya-vm.json'),
    supervisor: '/opt/ya-vm/ya-vm',
    aside: [],
  });
  const [descriptor, ...more] = JSON.parse(readFileSync(result.descriptor, 'utf8'));
  t.equal(more.length, 0);
  t.match(descriptor, {
    name: 'vm',
    version: '0.1.0',
    'supervisor-path': '/opt/ya-vm/ya-vm',
    'extra-args': ['--cap-handoff'],
    description: String,
    config: { counters: { 'golem.usage.cpu_sec': { name: 'cpu', price: true } } },
  });
  t.notOk('runtime-path' in descriptor, 'supervisor and runtime are one');
  t.ok(isInstalled(place));
  t.strictSame(names(place), ['ya-vm.json']);
  t.match(uninstall(place), { removed: result.descriptor, restored: [], kept: [] });
  t.strictSame(readdirSync(place.folder), [], 'nothing is left');
  t.match(uninstall(place), { removed: null });
});

t.test('another runtime of the name: stop, and nothing has changed', async (t) => {
  const place = plugins({ 'ya-runtime-vm.json': UPSTREAM, 'ya-wasm.json': [WASM] });
  t.throws(() => install({ ...options, place }), {
    code: 'YAVM_E_DESCRIPTOR_TAKEN',
    message: `${join(place.folder, 'ya-runtime-vm.json')} describes a runtime 'vm' already`,
  });
  t.strictSame(names(place), ['ya-runtime-vm.json', 'ya-wasm.json']);
  t.notOk(isInstalled(place));
});

t.test('replace: put aside where the provider does not look; uninstall brings it back', async (t) => {
  const place = plugins({ 'ya-runtime-vm.json': UPSTREAM, 'ya-wasm.json': [WASM] });
  const { aside } = install({ ...options, place, replace: true });
  t.strictSame(aside, [
    {
      from: join(place.folder, 'ya-runtime-vm.json'),
      to: join(place.folder, 'ya-runtime-vm.json.replaced-by-ya-vm'),
    },
  ]);
  t.strictSame(
    listDescriptors(place).flatMap(({ descriptors }) => descriptors.map(({ name }) => name)),
    ['vm', 'wasmtime'],
  );
  for (const { to } of aside) {
    t.notOk(matches(place, to.slice(place.folder.length + 1)) || to.endsWith('.json'));
  }
  install({ ...options, place, version: '0.2.0' });
  t.match(readDescriptors(join(place.folder, 'ya-vm.json')), { descriptors: [{ version: '0.2.0' }] });
  t.match(uninstall(place), { restored: [{ to: join(place.folder, 'ya-runtime-vm.json') }] });
  t.strictSame(names(place), ['ya-runtime-vm.json', 'ya-wasm.json']);
  t.strictSame(JSON.parse(readFileSync(join(place.folder, 'ya-runtime-vm.json'), 'utf8')), UPSTREAM);
});

t.test(
  'it came back by itself: the second one is asked for too, and an old one is not brought back over it',
  async (t) => {
    const place = plugins({ 'ya-runtime-vm.json': UPSTREAM });
    install({ ...options, place, replace: true });
    writeFileSync(join(place.folder, 'ya-runtime-vm.json'), JSON.stringify(UPSTREAM));
    t.throws(() => install({ ...options, place }), { code: 'YAVM_E_DESCRIPTOR_TAKEN' });
    const { kept } = uninstall(place);
    t.match(kept, [{ to: /replaced-by-ya-vm$/ }]);
    t.strictSame(names(place), ['ya-runtime-vm.json', 'ya-runtime-vm.json.replaced-by-ya-vm']);
    // The name is taken: another one is found.
    install({ ...options, place, replace: true });
    t.strictSame(names(place), [
      'ya-runtime-vm.json.replaced-by-ya-vm',
      'ya-runtime-vm.json.replaced-by-ya-vm.1',
      'ya-vm.json',
    ]);
    uninstall(place);
    t.ok(existsSync(join(place.folder, 'ya-runtime-vm.json')));
  },
);

t.test("somebody else's ya-vm.json, and a file with several runtimes", async (t) => {
  const foreign = plugins({ 'ya-vm.json': UPSTREAM });
  t.throws(() => install({ ...options, place: foreign }), { code: 'YAVM_E_DESCRIPTOR_TAKEN' });
  t.match(uninstall(foreign), { removed: null }, 'is not ours to remove');
  t.ok(existsSync(join(foreign.folder, 'ya-vm.json')));
  install({ ...options, place: foreign, replace: true });
  t.strictSame(names(foreign), ['ya-vm.json', 'ya-vm.json.replaced-by-ya-vm']);
  uninstall(foreign);
  t.strictSame(JSON.parse(readFileSync(join(foreign.folder, 'ya-vm.json'), 'utf8')), UPSTREAM);

  const mixed = plugins({ 'ya-all.json': [...UPSTREAM, WASM] });
  t.throws(() => install({ ...options, place: mixed, replace: true }), {
    code: 'YAVM_E_DESCRIPTOR_TAKEN',
    message: /other runtimes too/,
  });
  t.strictSame(names(mixed), ['ya-all.json']);
});

t.test('a crash between the record and the descriptor: uninstall finds its way back', async (t) => {
  const place = plugins({ 'ya-runtime-vm.json': UPSTREAM });
  install({ ...options, place, replace: true });
  rmSync(join(place.folder, 'ya-vm.json'));
  t.match(uninstall(place), { removed: null, restored: [{}] });
  t.strictSame(names(place), ['ya-runtime-vm.json']);
});

t.test('a record that was tampered with leads nowhere', async (t) => {
  const place = plugins();
  install({ ...options, place });
  const aside = [{ name: '../outside.json', as: 'x' }];
  writeFileSync(join(place.folder, '.ya-vm-installed'), JSON.stringify({ aside }));
  t.throws(() => uninstall(place), { code: 'YAVM_E_DESCRIPTOR' });
});

t.test('a folder that cannot be written', async (t) => {
  const file = join(top, 'a-file');
  writeFileSync(file, '');
  const place = { folder: join(file, 'plugins'), pattern: DEFAULT_PATTERN };
  t.throws(() => install({ ...options, place }), { code: 'YAVM_E_DESCRIPTOR' });
});

t.test('files that the provider could not read', async (t) => {
  const cases = {
    'ya-1.json': '{',
    'ya-2.json': '{}',
    'ya-3.json': '[{"version":"1"}]',
    'ya-4.json': '[{"name":"x","version":"1"}]',
    'ya-5.json': '[null]',
    'ya-6.json': '[{"name":"x","version":"1","supervisor-path":"y","extra-args":[1]}]',
  };
  const files = listDescriptors(plugins(cases));
  t.equal(files.length, 6);
  for (const { path, problem } of files) t.type(problem, 'string', path);
  const [{ descriptors } = { descriptors: [] }] = listDescriptors(plugins({ 'ya-x.json': UPSTREAM }));
  t.match(descriptors, [{ supervisor: /\/plugins\d+\/exe-unit$/, extraArgs: ['--cap-handoff'] }]);
});

t.test('places', async (t) => {
  const home = join(top, 'home');
  const user = join(home, '.local/lib/yagna/plugins');
  const system = '/usr/lib/yagna/plugins';
  const env = { HOME: home };
  t.match(installPlace({}, env), { folder: user, pattern: 'ya-*.json' });
  t.match(installPlace({ system: true }, env), { folder: system });
  t.match(installPlace({ folder: '/x' }, env), { folder: '/x' });
  t.match(installPlace({}, { ...env, EXE_UNIT_PATH: '/p/q/*.json' }), { folder: '/p/q', pattern: '*.json' });
  t.match(installPlace({}, {}), { folder: system });
  t.throws(() => installPlace({}, { ...env, EXE_UNIT_PATH: '/p/q/ya-runtime-*.json' }), {
    code: 'YAVM_E_DESCRIPTOR',
  });
  t.throws(() => parseExeUnitPath('/p/*/ya-*.json'), { code: 'YAVM_E_DESCRIPTOR' });
  t.throws(() => parseExeUnitPath('/p/*-*.json'), { code: 'YAVM_E_DESCRIPTOR' });
  t.match(providerPlace({}, env), { folder: system }, "the user's place is not there");
  mkdirSync(user, { recursive: true });
  t.match(providerPlace({}, env), { folder: user });
  t.ok(matches({ folder: '', pattern: 'ya-vm.json' }, 'ya-vm.json'));
  t.notOk(matches({ folder: '', pattern: 'ab*ba' }, 'aba'), 'the two parts do not overlap');
});

t.test('the command line', async (t) => {
  const place = plugins({ 'ya-runtime-vm.json': UPSTREAM });
  const run = async (...words: string[]) => {
    const context = testContext();
    const code = await runProgram(['provider', ...words, '--dir', place.folder], context);
    return { code, out: context.out(), err: context.err() };
  };
  const supervisor = ['--supervisor', process.execPath];
  t.match(await run('install', ...supervisor), { code: 125, err: /YAVM_E_DESCRIPTOR_TAKEN/ });
  const installed = await run('install', '--replace', '--json', ...supervisor);
  t.match(JSON.parse(installed.out), {
    supervisor: process.execPath,
    aside: [{ from: /ya-runtime-vm.json$/ }],
  });
  t.match(await run('install', ...supervisor), { code: 0, out: /installed: .*ya-vm\.json → / });
  t.match(await run('uninstall'), { code: 0, out: /removed: .*\nbrought back: .*ya-runtime-vm.json\n/ });
  t.match(await run('install', '--supervisor', '/no/such'), { code: 125, err: /YAVM_E_DESCRIPTOR/ });
});
