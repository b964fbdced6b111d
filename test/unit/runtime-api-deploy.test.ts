/** Deploy: the command lines of the recordings, volumes, and what is written down. */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import t from 'tap';
import { COMMANDS } from '../../host/cli/commands.ts';
import { addSupervisorOptions } from '../../host/cli/exe-unit-options.ts';
import { nameFirst } from '../../host/cli/leading.ts';
import { runProgram } from '../../host/cli/program.ts';
import { addRuntimeOptions, readRuntimeOptions } from '../../host/cli/runtime-options.ts';
import { deploy } from '../../host/runtime-api/deploy.ts';
import { readDeployment } from '../../host/runtime-api/deployment.ts';
import { planEntrypoint, planRun } from '../../host/runtime-api/vm-api.ts';
import { parseOverride, parseVolumeSize } from '../../host/runtime-api/volumes.ts';
import { testContext } from '../lib/cli.ts';
import { writeAssets } from '../lib/cli-vm.ts';
import { makeImage } from '../lib/images.ts';
import { recordingsOf, withoutRecordings } from '../lib/runtime-recordings.ts';

const folder = mkdtempSync(join(tmpdir(), 'yavm-deploy-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
const image = join(folder, 'task.gvmi');
makeImage(image, {
  files: { file: 'content' },
  config: { Env: ['A=b'], WorkingDir: '/golem', User: '1:2', Volumes: { '/golem/out': {}, '/golem/in': {} } },
});

let works = 0;
function workFolder(): string {
  const path = join(folder, `work${works++}`);
  mkdirSync(path);
  return path;
}

function parse(argv: readonly string[]) {
  const [name, ...words] = nameFirst(argv, COMMANDS);
  const command = new Command().exitOverride().argument('[word...]').passThroughOptions();
  addRuntimeOptions(command);
  addSupervisorOptions(command);
  command.parse(words, { from: 'user' });
  return { name, options: readRuntimeOptions(command.opts(), {}), words: command.processedArgs[0] };
}

t.test('the recorded command lines are understood', { skip: withoutRecordings }, async (t) => {
  for (const subcommand of ['deploy', 'start'] as const) {
    for (const { name: recording, argv } of recordingsOf(subcommand)) {
      const { name, options } = parse(argv);
      t.equal(name, subcommand, recording);
      t.match(options, { workFolder: '/activity/work', packages: Array });
    }
  }
  const recorded = recordingsOf('start').find(({ name }) => name === 'custom-counter.02-start');
  t.match(parse(recorded?.argv ?? []), {
    options: { cpus: 2, memoryGib: 0.5, storageGib: 50, hostname: 'golem' },
    words: ['start-entrypoint', 'x'],
  });
});

t.test(
  'options: before and behind the name, as one word, from the environment; what is no value',
  async (t) => {
    const line = [
      '--workdir=/w',
      '-t',
      '/i',
      '-t/j',
      '--mem-gib',
      '16.092196479439735',
      'deploy',
      '--cpu-cores',
      '3',
      '--',
    ];
    t.match(parse(line).options, {
      workFolder: '/w',
      packages: ['/i', '/j'],
      memoryGib: 16.092196479439735,
      cpus: 3,
    });
    t.match(
      readRuntimeOptions({ workdir: '/w' }, { YA_RUNTIME_HOSTNAME: 'h', YA_RUNTIME_VOLUME_OVERRIDE: '{}' }),
      {
        hostname: 'h',
        volumeOverride: '{}',
      },
    );
    for (const bad of ['0', '-1', 'NaN', 'Infinity', '1e99', '', '1 GB']) {
      t.throws(() => parse(['--workdir', '/w', `--mem-gib=${bad}`, 'deploy']), { code: 'YAVM_E_USAGE' }, bad);
    }
    t.throws(() => parse(['--workdir', '/w', '--cpu-cores', '1.5', 'deploy']), { code: 'YAVM_E_USAGE' });
    t.throws(() => parse(['--workdir', '/w', '--pci-device', 'x', 'start']), { code: 'YAVM_E_USAGE' });
    t.throws(() => parse(['deploy']), { code: 'YAVM_E_USAGE' });
  },
);

t.test('a process a command is refused, and said why', { skip: withoutRecordings }, async (t) => {
  for (const { name, argv } of recordingsOf('run')) {
    const context = testContext();
    t.not(await runProgram(argv, context), 0, name);
    t.match(context.err(), /--workdir does not go before 'run'.*YAVM_E_USAGE/);
    t.equal(context.out(), '');
  }
});

t.test('the recorded deployments, by meaning', { skip: withoutRecordings }, async (t) => {
  const assets = join(folder, 'assets');
  mkdirSync(assets);
  writeAssets(assets);
  const volumes = join(folder, 'volumes.gvmi');
  makeImage(volumes, {
    files: { file: '' },
    config: { Volumes: { '/golem/input': {}, '/golem/output': {} } },
  });
  // Left out: runtimes without an image, one that fails, and those that run each command as a process of its own.
  const left = /^(sdk-runtime|exe-unit2gsb|deploy-fails|batch-process-mode|sigterm-running-process)/;
  const recordings = recordingsOf('deploy').filter(({ name }) => !left.test(name));
  t.ok(recordings.length > 8);
  for (const { name, argv, lines } of recordings) {
    const context = testContext();
    context.env = { YAVM_ASSETS: assets };
    const work = workFolder();
    const words = argv.map((word) =>
      word === '/activity/work' ? work : word.endsWith('.gvmi') ? volumes : word,
    );
    t.equal(await runProgram(words, context), 0, `${name}: ${context.err()}`);
    const recorded = lines.map((line) => ('bytes' in line ? line.bytes.toString() : '')).join('');
    const [ours, real] = [JSON.parse(context.out()), JSON.parse(recorded)];
    t.strictSame(meaning(ours), meaning(real), name);
    for (const { name: volume } of ours.vols) t.ok(statSync(join(work, volume)).isDirectory());
  }
});

function meaning({ startMode, valid, vols }: { startMode: string; valid: object; vols: { path: string }[] }) {
  return { startMode, valid, paths: vols.map(({ path }) => path).sort() };
}

t.test('what was decided is read back; nothing half written stays', async (t) => {
  const work = workFolder();
  const result = await deploy({
    workFolder: work,
    packages: [image],
    cpus: 2,
    memoryGib: 0.7,
    storageGib: 1,
    hostname: 'box',
    volumeOverride: JSON.stringify({
      '/golem/in': { ram: { size: '1 MiB' } },
      '/data/': { storage: { size: '20.5 MB', errors: 'panic', preallocate: '1.0 MB' } },
      '/log': { storage: { size: 32 * 1024 ** 2, preallocate: null, errors: null } },
    }),
  });
  t.match(result, {
    startMode: 'blocking',
    valid: { Ok: '' },
    vols: [{ name: /^vol-[0-9a-f-]{36}$/, path: '/golem/out' }],
  });
  t.strictSame(Object.keys(result), ['startMode', 'valid', 'vols']);
  t.strictSame(readDeployment(work), {
    form: 2,
    layers: [realpathSync(image)],
    cpus: 2,
    memoryMiB: 716,
    root: { disk: 1024 ** 3 - 20_500_480 - 32 * 1024 ** 2 },
    hostname: 'box',
    mounts: [{ kind: 'ram', path: '/golem/in', size: 1024 ** 2 }],
    disks: [
      { path: '/data', size: 20_500_480, preallocate: 1_003_520, errors: 'panic' },
      { path: '/log', size: 32 * 1024 ** 2 },
    ],
    volumes: result.vols,
    config: { env: ['A=b'], workingDir: '/golem', user: '1:2', entrypoint: [], cmd: [] },
  });
  t.strictSame(readdirSync(work).sort(), ['deployment.json', result.vols[0]?.name]);
});

/** Deploys with a gigabyte of storage. */
function deployWith(workFolder: string, volumes: Readonly<Record<string, object>>) {
  const shape = { cpus: 1, memoryGib: 1, storageGib: 1, hostname: 'h' };
  return deploy({ workFolder, packages: [image], ...shape, volumeOverride: JSON.stringify(volumes) });
}

t.test('the root is what the volumes say, within the storage of the agreement', async (t) => {
  const root = async (volume: object) => {
    const work = workFolder();
    await deployWith(work, { '/': volume });
    return readDeployment(work).root;
  };
  t.strictSame(await root({ ram: { size: '10 MiB' } }), { ram: 10 * 1024 ** 2 });
  t.strictSame(await root({ storage: { size: '100 MiB' } }), { disk: 100 * 1024 ** 2 });
  t.strictSame(
    await root({ storage: { size: '1.1 GB' } }),
    { disk: 1024 ** 3 },
    'a GiB, as the supervisor sends it',
  );
  await t.rejects(root({ storage: { size: '10.7 GB' } }), { code: 'YAVM_E_STORAGE_OVERCOMMIT' });
});

t.test('what no VM can have is refused, and nothing is made', async (t) => {
  const work = workFolder();
  const refuse = (volumes: Record<string, object>) => deployWith(work, volumes);
  const each = (volume: object, count: number) =>
    Object.fromEntries(Array.from({ length: count }, (_, index) => [`/${index}`, volume]));
  await t.rejects(refuse(each({ storage: { size: 1 } }, 7)), { code: 'YAVM_E_VM_SPEC', message: /9 disks/ });
  await t.rejects(refuse(each({ host: {} }, 11)), { code: 'YAVM_E_VM_SPEC', message: /13 folders/ });
  await t.rejects(refuse({ '/big': { storage: { size: '1.1 GiB' } } }), {
    code: 'YAVM_E_STORAGE_OVERCOMMIT',
  });
  t.strictSame(readdirSync(work), []);
});

t.test('a deployment that is none is refused', async (t) => {
  const work = workFolder();
  t.throws(() => readDeployment(work), { code: 'YAVM_E_DEPLOYMENT', message: /is not there/ });
  for (const text of ['', '{', '[]', '{}', '{"form":2}', JSON.stringify({ form: 1, layers: [] })]) {
    writeFileSync(join(work, 'deployment.json'), text);
    t.throws(() => readDeployment(work), { code: 'YAVM_E_DEPLOYMENT', message: /not a deployment/ }, text);
  }
  t.notOk(existsSync(join(work, 'deployment.json.new')));
});

t.test('sizes as the supervisor writes them', async (t) => {
  const pages = (bytes: number) => Math.ceil(bytes / 4096) * 4096;
  const sizes: [unknown, size: number, least: number][] = [
    ['10.7 GB', pages(10.7e9), pages(10.65e9)],
    ['1048.6 KB', pages(1_048_600), pages(1_048_550)],
    ['1.25 GiB', 1.25 * 1024 ** 3, pages(1.245 * 1024 ** 3)],
    ['1 k', 4096, 4096],
    ['2gib', 2 * 1024 ** 3, pages(1.95 * 1024 ** 3)],
    ['2 Gi', 2 * 1024 ** 3, pages(1.95 * 1024 ** 3)],
    [4096, 4096, 4096],
    ['512 B', 4096, 4096],
  ];
  for (const [value, size, least] of sizes)
    t.strictSame(parseVolumeSize(value), { size, least }, String(value));
  for (const bad of [
    0,
    -1,
    1e300,
    Number.NaN,
    '0 B',
    '',
    'x',
    '1 ib',
    '-5 GB',
    '1e9',
    null,
    {},
    undefined,
    '9999999 PB',
  ]) {
    t.throws(() => parseVolumeSize(bad), { code: 'YAVM_E_VOLUME' }, String(bad));
  }
});

t.test('the override is read; odd ones are refused', async (t) => {
  const text = JSON.stringify({
    '/a/./b//': { host: {} },
    '/c': { ram: { size: '1 MiB' } },
    '/d': { storage: { size: 1, preallocate: '0 B', errors: 'continue' } },
  });
  t.strictSame(
    [...parseOverride(text)],
    [
      ['/a/b', { kind: 'host' }],
      ['/c', { kind: 'ram', size: 1024 ** 2 }],
      ['/d', { kind: 'storage', size: 4096, least: 4096, preallocate: undefined, errors: 'continue' }],
    ],
  );
  t.equal(parseOverride(undefined).size + parseOverride('').size, 0);
  const bad = [
    ...[
      '{',
      '[]',
      '3',
      'null',
      '{"/x":null}',
      '{"/x":{}}',
      '{"/x":{"host":{},"ram":{}}}',
      '{"/x":{"disk":{}}}',
    ],
    ...[
      '{"":{"host":{}}}',
      '{"/x":{"storage":{"size":1,"errors":3}}}',
      '{"/x":{"storage":{"size":1,"preallocate":"much"}}}',
      '{"x":{"host":{}}}',
      '{"/a/../b":{"host":{}}}',
    ],
    ...['{"/x":{"ram":{}}}', '{"/x":{"host":1}}', JSON.stringify({ [`/${'x'.repeat(5000)}`]: { host: {} } })],
  ];
  for (const text of bad) t.throws(() => parseOverride(text), { code: 'YAVM_E_VOLUME' }, text.slice(0, 60));
});

t.test('commands: name, directory, user and environment', async (t) => {
  const config = { env: ['A=b'], workingDir: '/w', user: '1:2', entrypoint: ['/bin/x', '-e'], cmd: ['y'] };
  t.strictSame(planRun({ bin: '/bin/sh', args: ['sh', '-c', 'true'], workDir: '' }, config), {
    argv: ['/bin/sh', '-c', 'true'],
    env: ['A=b'],
    cwd: '/w',
    argv0: 'sh',
    user: '1:2',
  });
  t.match(planRun({ bin: 'sh', args: [], workDir: '/o' }, config), {
    argv: ['sh'],
    cwd: '/o',
    argv0: undefined,
  });
  t.match(planEntrypoint(config), { argv: ['/bin/x', '-e', 'y'], argv0: 'x' });
  t.throws(() => planEntrypoint({ ...config, entrypoint: [], cmd: [] }), { code: 'YAVM_E_NO_ENTRYPOINT' });
});
