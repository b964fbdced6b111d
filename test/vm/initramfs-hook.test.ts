/** Start-up hooks in real VMs: what they can do, and that nothing that they do ends PID 1. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import t from 'tap';
import { fetchKernel } from '../../build/kernel.ts';
import { HOOK } from '../../guest/hook/manifest.ts';
import { createLogger } from '../../host/lib/logger.ts';
import type { BootAssets } from '../../host/runtime/index.ts';
import { buildInitramfs } from '../../initramfs/build.ts';
import { type Entry, packCpio, unpackCpio } from '../../initramfs/cpio.ts';
import { hookEntries } from '../../initramfs/hook.ts';
import { builtFile, privateEnvironment, shell, startTestVm } from '../lib/vm.ts';

t.setTimeout(600_000);
const folder = privateEnvironment(t).XDG_RUNTIME_DIR as string;
const kernel = await fetchKernel();

/** What goes into an initramfs for a hook of this text. */
function entriesOf(name: string, text: string, files: Record<string, string> = {}): Promise<Entry[]> {
  for (const [file, content] of Object.entries({ ...files, [name]: text }))
    writeFileSync(join(folder, file), content);
  return hookEntries(join(folder, name), builtFile('bytecode'));
}

/** An initramfs with these entries, as it is built for who asks for a hook. */
async function built(name: string, entries: Entry[]): Promise<BootAssets> {
  const assets = {
    kernel: builtFile('vmlinux'),
    initramfs: join(folder, `${name}.cpio.zst`),
    manifest: join(folder, `${name}.json`),
  };
  await buildInitramfs({
    kernel,
    init: builtFile('init'),
    extraModules: ['dummy'],
    entries,
    outputs: { initramfs: assets.initramfs, manifest: assets.manifest },
    version: 'test',
  });
  return assets;
}

/** `base` with another hook: most of a build is its compression, and that of a test may be a worse one. */
function withOtherHook(base: BootAssets, name: string, hook: Entry[]): BootAssets {
  const paths = new Set(hook.map(({ path }) => path));
  const rest = unpackCpio(zstdDecompressSync(readFileSync(base.initramfs)));
  const entries = [...rest.filter(({ path }) => !paths.has(path)), ...hook];
  const initramfs = join(folder, `${name}.cpio.zst`);
  writeFileSync(initramfs, zstdCompressSync(packCpio(entries, 0)));
  return { ...base, initramfs };
}

const first = await built(
  'all.ts',
  await entriesOf(
    'all.ts',
    `import type { Hook } from '${join(import.meta.dirname, '../../guest/hook/api.ts')}';
import { greeting } from './words.ts';

export async function afterHello(hook: Hook): Promise<void> {
  hook.loadModule('dummy', 'numdummies=2');
  hook.initramfs.write('/run/hook/early', \`\${greeting} \${hook.task === null}\`);
  hook.initramfs.set('/proc/sys/kernel/panic', '7');
  await new Promise<void>((resolve) => setTimeout(resolve, 20));
}
export function beforeMounts(hook: Hook): void {
  hook.log.info(\`before mounts: \${hook.initramfs.read('/run/hook/early')}\`);
}
export async function afterConfigure({ task, initramfs, spawn }: Hook): Promise<void> {
  task?.write('/opt/deep/told', initramfs.read('/run/hook/early'), 0o600);
  const { code, output } = await spawn(['sh', '-c', 'hostname; echo wrong >&2; exit 3'], { in: 'task' });
  task?.write('/opt/spawned', \`\${code} \${output}\`);
  const killed = await spawn(['sh', '-c', 'kill -9 $$']);
  console.warn(\`signal \${killed.signal}\`);
}
export function beforeStop(hook: Hook): void {
  console.log(\`stopping with \${hook.task?.read('/opt/deep/told')}\`);
  throw new Error('too late to matter');
}
`,
    { 'words.ts': "export const greeting: string = 'hello';\n" },
  ),
);

t.test('every function is called in its turn, with what it needs', async (t) => {
  const file = join(folder, 'log');
  const logger = createLogger({ level: 'info', file });
  const vm = await startTestVm(t, { assets: first, hostname: 'hooked' }, { logger });
  t.equal(await shell(vm, 'cat /opt/deep/told; stat -c " %a" /opt/deep/told'), 'hello true 600\n');
  t.equal(await shell(vm, 'cat /opt/spawned'), '3 hooked\nwrong\n');
  t.equal(await shell(vm, 'cat /proc/sys/kernel/panic; ls -d /sys/class/net/dummy* | wc -l'), '7\n2\n');
  t.equal(await shell(vm, 'ls / | grep -c hook; true'), '0\n', 'the hook itself is out of sight');
  await vm.stop();
  await logger.close();
  const lines = readFileSync(file, 'utf8').split('\n');
  for (const said of [/before mounts: hello true/, /signal 9/, /stopping with hello true/])
    t.ok(
      lines.some((line) => said.test(line)),
      String(said),
    );
  t.ok(
    lines.some((line) => line.includes('hook, beforeStop: all.ts:22: Error: too late to matter')),
    'a failure at the end is logged, and the VM has stopped',
  );
});

// Two of them from a template, or what is to become one; the others show the same in one boot less.
for (const { what, name, text, says, start } of [
  {
    what: 'one that throws',
    name: 'throws.ts',
    text: `export function afterConfigure(): void {\n  const none: { x?: string } = {};\n  none.x!.at(0);\n}\n`,
    says: /hook, afterConfigure: throws\.ts:3: TypeError: .*undefined/,
  },
  {
    what: 'a promise that nobody waits for',
    name: 'floats.ts',
    start: 'cold' as const,
    text: `export async function beforeMounts() {\n  void (async () => {\n    throw new Error('astray');\n  })();\n  await new Promise((r) => setTimeout(r, 500));\n}\n`,
    says: /hook, beforeMounts: floats\.ts:3: .*Error: astray/,
  },
  {
    what: 'one that never ends',
    name: 'loops.ts',
    start: 'cold' as const,
    text: 'export function afterHello() {\n  for (;;);\n}\n',
    says: /hook, afterHello: loops\.ts: not done within 10 s/,
  },
  {
    what: 'one that takes all memory',
    name: 'eats.ts',
    text: `export function afterHello() {\n  const all = [];\n  for (;;) all.push(new Array(1000).fill(1));\n}\n`,
    says: /hook, afterHello: eats\.ts:3: .*out of memory/,
  },
  {
    what: 'a module that is not there',
    name: 'lacks.ts',
    start: 'cold' as const,
    text: `export function beforeMounts(hook) {\n  hook.loadModule('nosuch');\n}\n`,
    says: /hook, beforeMounts: lacks\.ts:2: .*'nosuch'/,
  },
])
  t.test(`${what} is a named error of the start, told by an agent that lives`, async (t) => {
    const assets = withOtherHook(first, name, await entriesOf(name, text));
    await t.rejects(startTestVm(t, { assets, start }), {
      code: 'YAVM_E_GUEST_HOOK_FAILED',
      message: says,
    });
  });

t.test('a hook of another version is not run, and told by name', async (t) => {
  const entries = await entriesOf('old.ts', 'export function afterHello() {}\n');
  for (const entry of entries) {
    if (entry.type !== 'file' || entry.path !== HOOK.bytecode) continue;
    entry.data = Buffer.from(
      Buffer.from(entry.data).toString('latin1').replace('quickjs-2', 'quickjs-1'),
      'latin1',
    );
  }
  const assets = withOtherHook(first, 'old.ts', entries);
  await t.rejects(startTestVm(t, { assets, start: 'cold' }), {
    code: 'YAVM_E_GUEST_HOOK_VERSION',
    message: /hook old\.ts: it was made as .* quickjs-1\S+, and this \/init reads .* quickjs-2/,
  });
});
