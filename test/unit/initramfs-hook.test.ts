/** `--hook FILE.ts`: what becomes of a file, and what is refused. The agent's side is test/vm/initramfs-hook.test.ts. */
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import vm from 'node:vm';
import t from 'tap';
import { buildBytecodeCompiler } from '../../build/engine.ts';
import { bytecodeMark, HOOK, hookFailure } from '../../guest/hook/manifest.ts';
import type { Entry } from '../../initramfs/cpio.ts';
import { checkHook, hookEntries } from '../../initramfs/hook.ts';
import { hookScript } from '../../initramfs/hook-script.ts';

const folder = mkdtempSync(join(tmpdir(), 'ya-vm-test-'));
t.teardown(() => rmSync(folder, { recursive: true }));
const compiler = await buildBytecodeCompiler();

function write(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

t.test('one file loses its types, and its lines stay where they are', async (t) => {
  const path = write(
    'plain.ts',
    `import type { Hook } from 'ya-vm';
interface Mine { a: number }
export async function afterHello(hook: Hook): Promise<number> {
  const mine: Mine = { a: 1 };
  return mine.a;
}
export const beforeStop = (): void => {
  throw new Error('on line 8');
};
`,
  );
  const { script, manifest } = await hookScript(path);
  t.strictSame(manifest, { name: 'plain.ts', phases: ['afterHello', 'beforeStop'] });
  const functions = vm.runInNewContext(script, {}, { filename: 'plain.ts' });
  t.equal(await functions.afterHello(), 1);
  try {
    functions.beforeStop();
    t.fail('it throws');
  } catch (error) {
    t.equal(hookFailure(manifest, (error as Error).stack as string), 'plain.ts:8: Error: on line 8');
  }
  t.same(await hookScript(path), { script, manifest }, 'the same again');
});

t.test('what imports is bundled, and told by its own lines', async (t) => {
  write(
    'part.ts',
    `export enum Kind {
  one = 1,
}

export function fail(): never {
  throw new Error(\`kind \${Kind.one}\`);
}
`,
  );
  const path = write(
    'whole.ts',
    `import { fail } from './part.ts';

function inner(): void {
  fail();
}
export { inner as afterConfigure };
`,
  );
  const { script, manifest } = await hookScript(path);
  t.strictSame(manifest.phases, ['afterConfigure']);
  t.strictSame(manifest.sources?.toSorted(), ['part.ts', 'whole.ts']);
  try {
    vm.runInNewContext(script, {}, { filename: 'whole.ts' }).afterConfigure();
    t.fail('it throws');
  } catch (error) {
    t.equal(hookFailure(manifest, (error as Error).stack as string), 'part.ts:6: Error: kind 1');
  }
  t.equal(hookFailure(manifest, 'not done within 10 s'), 'whole.ts: not done within 10 s');
});

function bytesOf(entries: Entry[], path: string): Buffer {
  const entry = entries.find((each) => each.path === path);
  return entry?.type === 'file' ? Buffer.from(entry.data) : Buffer.alloc(0);
}

t.test('it goes in as bytecode, with a line that says which engine reads it', async (t) => {
  const path = write('small.ts', 'export function afterHello(): void {}\n');
  const entries = await hookEntries(path, compiler);
  t.strictSame(
    entries.map((entry) => entry.path),
    ['/hook', '/hook/hook.bin', '/hook/hook.json'],
  );
  const bytes = bytesOf(entries, HOOK.bytecode);
  const mark = bytecodeMark(bytes) as string;
  t.match(mark, /^yavm-bytecode [\d.]+\S* quickjs-[\d.]+$/);
  t.notMatch(bytes.toString('latin1'), /function afterHello/, 'no source text');
  t.same(await hookEntries(path, compiler), entries, 'the same again');

  checkHook(Buffer.from(`\x7fELF\0${mark}\0`), entries);
  checkHook(Buffer.from('an /init without hooks'), entries.slice(0, 1));
  const code = 'YAVM_E_INITRAMFS_HOOK_VERSION';
  t.throws(() => checkHook(Buffer.from('another /init'), entries), { code, message: mark });
  t.throws(() => checkHook(Buffer.from(`${mark}.1\0`), entries), { code });
  const foreign: Entry = { type: 'file', path: HOOK.bytecode, mode: 0o644, data: Buffer.from('no mark\n') };
  t.throws(() => checkHook(Buffer.from('no mark\0'), [foreign]), { code, message: /'no bytecode'/ });
  t.equal(bytecodeMark(Buffer.alloc(0)), null);
  t.equal(bytecodeMark(Buffer.from(`yavm-bytecode ${'x'.repeat(200)}\n`)), null, 'a line without an end');
});

t.test('a compiler that fails', async (t) => {
  const code = 'YAVM_E_INITRAMFS_HOOK';
  const path = write('fine.ts', 'export function afterHello(): void {}\n');
  const message = /fine\.ts: the hook cannot be compiled/;
  await t.rejects(hookEntries(path, join(folder, 'nowhere')), { code, message });
  await t.rejects(hookEntries(path, '/bin/false'), { code, message });
  const endless = write('endless', '#!/bin/sh\nexec yes\n');
  chmodSync(endless, 0o755);
  await t.rejects(hookEntries(path, endless), { code, message, cause: { message: /wrote more than/ } });
});

t.test('where esbuild is not installed', async (t) => {
  const code = 'YAVM_E_INITRAMFS_HOOK';
  const none = () => Promise.reject(new Error('no such module'));
  const plain = write('one.ts', 'export const afterHello = (): void => {};\n');
  t.strictSame((await hookScript(plain, none)).manifest.phases, ['afterHello']);
  const enums = write('enum.ts', 'enum Kind { a }\nexport function afterHello() {}\n');
  await t.rejects(hookScript(enums, none), { code, message: /esbuild is not installed/, hint: /one file/ });
  const wrong = write('wrong.ts', 'export function afterHello() {\n  const a = ;\n}\n');
  await t.rejects(hookScript(wrong, none), { code, message: /wrong\.ts:2: Expression expected/ });
});

t.test('refused by name', async (t) => {
  const code = 'YAVM_E_INITRAMFS_HOOK';
  await t.rejects(hookEntries(join(folder, 'none.ts'), compiler), { code, message: /cannot be read/ });
  await t.rejects(hookEntries(write('typo.ts', 'export function afterHelo() {}\n'), compiler), {
    code,
    message: /exports afterHelo, which nothing calls/,
    hint: /afterHello, beforeMounts, afterConfigure, beforeStop/,
  });
  await t.rejects(hookEntries(write('empty.ts', 'const a = 1;\n'), compiler), {
    code,
    message: /exports nothing/,
  });
  await t.rejects(hookEntries(write('lost.ts', "import './nowhere.ts';\n"), compiler), {
    code,
    message: /lost\.ts:1: Could not resolve/,
  });
  await t.rejects(hookEntries(write('broken.ts', 'export function afterHello( {\n'), compiler), {
    code,
    message: /broken\.ts:2: /,
  });
  await t.rejects(hookEntries(write('wait.ts', 'export function afterHello() {}\nawait 1;\n'), compiler), {
    code,
    message: /wait\.ts:2: /,
  });
  const large = `export function afterHello() { return '${'x'.repeat(300_000)}'; }\n`;
  await t.rejects(hookEntries(write('large.ts', large), compiler), { code, message: /larger than/ });
});
