/** `ya-vm initramfs diff` and `explain`, and what `inspect` shows of modules. */
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { gzipSync } from 'node:zlib';
import { Command } from 'commander';
import t from 'tap';
import { agentOf } from '../../initramfs/agent.ts';
import { bootCostLine, compareBoots } from '../../initramfs/boot-cost.ts';
import { buildInitramfs, type InitramfsOptions } from '../../initramfs/build.ts';
import { registerInitramfs } from '../../initramfs/cli.ts';
import { diffInitramfs } from '../../initramfs/diff.ts';
import { explain } from '../../initramfs/explain.ts';
import { inspect } from '../../initramfs/inspect.ts';
import { openKernelFiles } from '../../initramfs/kernel/source.ts';
import type { ModuleRequest } from '../../initramfs/modules/table.ts';
import { makeBzImage, makeElf, makeVmlinux, RELEASE, writeTree } from '../lib/kernel-fixture.ts';

const folder = mkdtempSync(join(tmpdir(), 'ya-vm-test-'));
t.teardown(() => rmSync(folder, { recursive: true }));

const ask = (name: string, more: Partial<ModuleRequest> = {}): ModuleRequest => {
  return { name, symbol: null, stage: 'configure', reason: `for ${name}`, ...more };
};

/** Builds one into a folder of its own. The modules' bytes carry `mark`. */
async function make(name: string, release: string, mark: string, more: Partial<InitramfsOptions> = {}) {
  const at = join(folder, name);
  const modules = `lib/modules/${release}`;
  const names = ['card', 'helper', 'core', 'disk'];
  writeTree(at, {
    'boot/vmlinuz': makeBzImage(gzipSync(makeVmlinux({ release })), { release }),
    [`${modules}/modules.dep`]:
      'k/card.ko: k/helper.ko k/core.ko\nk/helper.ko: k/core.ko\nk/core.ko:\nk/disk.ko:\n',
    [`${modules}/modules.builtin`]: 'k/bus.ko\n',
    ...Object.fromEntries(
      names.map((each) => [`${modules}/k/${each}.ko`, makeElf({ load: Buffer.from(`${each} ${mark}`) })]),
    ),
    tool: 'tool',
  });
  chmodSync(join(at, 'tool'), 0o755);
  const kernel = await openKernelFiles({ kernel: join(at, 'boot/vmlinuz'), modules: at });
  const outputs = { initramfs: join(at, 'initramfs.cpio.zst'), manifest: join(at, 'manifest.json') };
  const init = makeElf({ load: Buffer.from('static program') });
  await buildInitramfs({ kernel, init, outputs, version: '1.2.3', mtime: 0, modules: [], ...more });
  return at;
}

const old = make('old', RELEASE, 'one', {
  modules: [ask('card'), ask('bus'), ask('gone', { optional: true })],
});

t.test('the same builds are the same', async (t) => {
  const again = await make('again', RELEASE, 'one', {
    modules: [ask('card'), ask('bus'), ask('gone', { optional: true })],
  });
  const found = diffInitramfs(await inspect(await old), await inspect(again));
  t.match(found, { same: true, modules: [], files: [], manifest: [] });
});

t.test('a deliberate change is told, and what it costs', async (t) => {
  const before = await inspect(await old);
  const tool = { source: join(await old, 'tool'), path: '/bin/tool' };
  const after = await inspect(
    await make('new', RELEASE, 'one', {
      modules: [ask('helper'), ask('disk')],
      files: [tool],
      version: '1.3.0',
    }),
  );
  const found = diffInitramfs(before, after);
  t.strictSame(
    found.modules.map(({ name, before, after }) => [name, before === null, after === null]),
    [
      ['card', false, true],
      ['disk', true, false],
    ],
  );
  t.match(
    found.files.find(({ path }) => path === '/bin/tool'),
    { before: null, after: { mode: '0755', size: 4 } },
  );
  t.match(
    found.manifest.filter(({ field }) => field === 'builder' || field === 'builtin'),
    [
      { field: 'builder', before: '1.2.3', after: '1.3.0' },
      { field: 'builtin', before: ['bus'], after: [] },
    ],
  );
  t.strictSame(found.bytes.packed, { before: before.size, after: after.size });
  t.strictSame(found.bytes.unpacked, { before: before.unpacked, after: after.unpacked });

  const back = diffInitramfs(after, before);
  t.strictSame(
    back.modules.map(({ name, before, after }) => [name, before === null, after === null]),
    [
      ['card', true, false],
      ['disk', false, true],
    ],
  );
});

t.test('another kernel changes its modules, it does not replace them all', async (t) => {
  const next = await make('next', '6.9.0-1-test', 'two', { modules: [ask('card'), ask('bus')] });
  const found = diffInitramfs(await inspect(await old), await inspect(next));
  t.strictSame(found.release, { before: RELEASE, after: '6.9.0-1-test' });
  t.strictSame(
    found.modules.map(({ name, changed }) => `${name} ${changed}`),
    ['card true', 'core true', 'helper true'],
  );
  t.strictSame(found.files, [], 'lists of modules are the same ones, wherever they lie');
  t.ok(found.manifest.some(({ field }) => field === 'kernel.release'));
});

t.test('why a module is in', async (t) => {
  const found = await inspect(await old);
  t.match(explain(found, 'core'), {
    state: 'carried',
    reason: 'for card',
    chain: ['card', 'helper', 'core'],
    neededBy: ['helper', 'card'],
    stage: 'configure',
    path: 'k/core.ko',
    preset: null,
  });
  t.match(explain(found, 'card.ko'), { chain: ['card'], neededBy: [], dependencies: ['helper', 'core'] });
  t.match(explain(found, 'bus'), { state: 'built in', size: null, chain: [] });
  t.match(explain(found, 'gone'), { state: 'absent' });
  t.match(explain(found, 'disk'), { state: 'unknown' });
  t.match(
    explain({ ...found, manifest: null }, 'core'),
    { state: 'carried', reason: null, chain: ['core'], neededBy: ['helper', 'card'] },
    'without a manifest only what the archive says',
  );
  const [card] = found.manifest?.modules.filter(({ name }) => name === 'card') ?? [];
  if (card) card.via = 'core';
  t.equal(explain(found, 'core').chain.length, 3, 'a loop in a manifest ends');
});

async function command(...words: string[]): Promise<{ code: number; out: string }> {
  const stdout = new PassThrough();
  let code = -1;
  const program = new Command('ya-vm').exitOverride();
  registerInitramfs(
    program,
    (command, handler) => {
      command.action(async () => {
        code = await handler({ stdout, stderr: new PassThrough() }, command.opts(), command.processedArgs);
      });
    },
    { folder: join(folder, 'old'), cache: join(folder, 'cache'), version: '1.2.3' },
  );
  await program.parseAsync(words, { from: 'user' });
  return { code, out: String(stdout.read() ?? '') };
}

t.test('the commands, for people and for programs', async (t) => {
  await old;
  const other = await make('other', RELEASE, 'three', { modules: [ask('card'), ask('disk')] });
  const same = await command('diff', join(folder, 'old'), join(folder, 'old'));
  t.strictSame(same, { code: 0, out: 'the same bytes\n' });
  const { code, out } = await command('diff', join(folder, 'old'), other);
  t.equal(code, 1);
  t.match(out, /^initramfs {2}\d+ -> \d+ bytes \([+-]?\d+\)\n/);
  t.match(out, /\n~ builtin: bus -> none\n/);
  t.match(out, /\n~ module core \(/);
  t.match(out, /\n\+ module disk \(\d+ bytes\)\n/);
  t.match(JSON.parse((await command('diff', join(folder, 'old'), other, '--json')).out), { same: false });

  const why = await command('explain', 'core');
  t.equal(why.code, 0);
  t.match(
    why.out,
    /core: in the initramfs, \d+ bytes\nbrought along by card -> helper -> core\ncard: for card\n/,
  );
  t.match(await command('explain', 'bus'), { code: 0, out: /built into the kernel/ });
  t.match(await command('explain', 'none', other), { code: 1, out: /--module none/ });
  t.match(JSON.parse((await command('explain', 'core', '--json')).out), { name: 'core', state: 'carried' });
  t.match((await command('inspect')).out, /\n3 modules, .* unpacked\n +\d+ \w+ +\w+/);
  const kernel = ['--kernel', join(other, 'boot/vmlinuz'), '--modules', other];
  // A kernel without any of the modules that the agent needs: what matters is that its own agent was found.
  await t.rejects(command('build', ...kernel, '--output', join(folder, 'x')), { message: /virtio_ring/ });
  t.match(await agentOf(join(other, 'initramfs.cpio.zst')), makeElf({ load: Buffer.from('static program') }));
  await t.rejects(agentOf(join(other, 'tool')), { code: 'YAVM_E_INITRAMFS_ARCHIVE' });
  await t.rejects(command('build', '--preset', 'none'), { code: 'YAVM_E_USAGE', hint: /minimal.*gpu/ });
});

t.test('what boots cost: in turn, the first of each does not count', async (t) => {
  const booted: string[] = [];
  const takes: Record<string, number[]> = { old: [900, 100, 120, 110], new: [900, 150, 140, 160] };
  const boot = async (path: string) => {
    booted.push(path);
    return (takes[path] as number[]).shift() as number;
  };
  const cost = await compareBoots(['old', 'new'], 3, boot);
  t.equal(booted.join(' '), 'old new new old old new new old');
  t.match(cost, { difference: 40, apart: true, before: { median: 110, least: 100, most: 120 } });
  t.equal(bootCostLine(cost), 'boot       110 ms (100–120) -> 150 ms (140–160), medians of 3 (+40 ms)');
  const same = await compareBoots(['a', 'b'], 2, async () => 10);
  t.match(same, { difference: 0, apart: false, after: { median: 10, boots: [10, 10] } });
  t.match(bootCostLine(same), '(0 ms, within the spread)');
});
