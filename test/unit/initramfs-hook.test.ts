/** `--hook FILE.ts`: what becomes of a file, and what is refused. The agent's side is test/vm/initramfs-hook.test.ts. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import vm from 'node:vm';
import t from 'tap';
import type { HookManifest } from '../../guest/hook/manifest.ts';
import { hookFailure } from '../../guest/hook/parts.ts';
import { hookEntries } from '../../initramfs/hook.ts';

const folder = mkdtempSync(join(tmpdir(), 'ya-vm-test-'));
t.teardown(() => rmSync(folder, { recursive: true }));

function write(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

async function made(path: string): Promise<{ script: string; manifest: HookManifest }> {
  const files = new Map(
    (await hookEntries(path)).map((entry) => [
      entry.path,
      entry.type === 'file' ? Buffer.from(entry.data).toString('utf8') : '',
    ]),
  );
  return {
    script: files.get('/hook/hook.js') as string,
    manifest: JSON.parse(files.get('/hook/hook.json') as string),
  };
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
  const { script, manifest } = await made(path);
  t.strictSame(manifest, { name: 'plain.ts', phases: ['afterHello', 'beforeStop'] });
  const functions = vm.runInNewContext(script, {}, { filename: 'plain.ts' });
  t.equal(await functions.afterHello(), 1);
  try {
    functions.beforeStop();
    t.fail('it throws');
  } catch (error) {
    t.equal(hookFailure(manifest, (error as Error).stack as string), 'plain.ts:8: Error: on line 8');
  }
  t.same(await made(path), { script, manifest }, 'the same again');
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
  const { script, manifest } = await made(path);
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

t.test('refused by name', async (t) => {
  const code = 'YAVM_E_INITRAMFS_HOOK';
  await t.rejects(hookEntries(join(folder, 'none.ts')), { code, message: /cannot be read/ });
  await t.rejects(hookEntries(write('typo.ts', 'export function afterHelo() {}\n')), {
    code,
    message: /exports afterHelo, which nothing calls/,
    hint: /afterHello, beforeMounts, afterConfigure, beforeStop/,
  });
  await t.rejects(hookEntries(write('empty.ts', 'const a = 1;\n')), { code, message: /exports nothing/ });
  await t.rejects(hookEntries(write('lost.ts', "import './nowhere.ts';\n")), {
    code,
    message: /lost\.ts:1: Could not resolve/,
  });
  await t.rejects(hookEntries(write('broken.ts', 'export function afterHello( {\n')), {
    code,
    message: /broken\.ts:2: /,
  });
  await t.rejects(hookEntries(write('wait.ts', 'export function afterHello() {}\nawait 1;\n')), {
    code,
    message: /wait\.ts:2: /,
  });
  const large = `export function afterHello() { return '${'x'.repeat(300_000)}'; }\n`;
  await t.rejects(hookEntries(write('large.ts', large)), { code, message: /larger than/ });
});
