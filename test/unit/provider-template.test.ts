/** The template that `test` and `offer-template` make ahead: of which shape, when not, and that it is never a failure. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { makeProviderTemplate, usesTemplates } from '../../host/cli/provider-template.ts';
import { YavmError } from '../../host/lib/errors.ts';
import type { makeTemplate } from '../../host/runtime/template/ahead.ts';
import { recordingLogger } from '../lib/outbound-vm.ts';

type Make = typeof makeTemplate;

function provider(t: Test): string {
  const data = t.testdir();
  writeFileSync(
    join(data, 'hardware.json'),
    JSON.stringify({ active: 'a', profiles: { a: { cpu_threads: 2, mem_gib: 1.5, storage_gib: 9 } } }),
  );
  const work = join(data, 'exe-unit', 'work');
  mkdirSync(work, { recursive: true });
  return work;
}

async function tried(work: string, make: Make, env: Record<string, string> = {}, gpu = {}) {
  const lines: string[] = [];
  const asked: Parameters<Make>[] = [];
  const { logger, records } = recordingLogger();
  await makeProviderTemplate({ env: { ...process.env, YA_VM_START: '', ...env }, log: logger }, 'tcg', {
    ...{ say: (line: string) => lines.push(line), insists: true, work, gpu },
    make: (...given) => {
      asked.push(given);
      return make(...given);
    },
  });
  return { lines, asked, records };
}

const makes: Make = async () => ({ key: 'k', built: true, milliseconds: 3100 });

t.test('it is that of the active profile', async (t) => {
  const { lines, asked, records } = await tried(provider(t), makes);
  t.match(asked, [[{ cpus: 2, memoryMiB: 1536, accel: 'tcg' }, { insists: true }]]);
  t.strictSame(lines, ['ok: the template of activities, with 1.5 GiB and 2 CPUs: made in 3.10 s']);
  t.strictSame(records, []);
  const there = await tried(provider(t), async () => ({ key: 'k', built: false, milliseconds: 3 }));
  t.match(there.lines, [/: there$/]);
});

t.test('none where nobody knows the shape, or such VMs have none', async (t) => {
  const work = provider(t);
  const rows: [string, Record<string, string>, object][] = [
    [t.testdir(), {}, {}],
    [work, { YA_VM_START: 'cold' }, {}],
    [work, { YA_VM_TEMPLATES_LIMIT: '0' }, {}],
    [work, { YA_VM_HUGEPAGES: '2M' }, {}],
    [work, {}, { gpu: { kind: 'pci', slots: ['0000:01:00.0'] } }],
  ];
  for (const [folder, env, gpu] of rows) {
    const { lines, asked } = await tried(folder, makes, env, gpu);
    t.strictSame([lines, asked], [[], []], JSON.stringify({ env, gpu }));
  }
  t.equal(await usesTemplates({ YA_VM_HUGEPAGES: 'off' }), true);
});

t.test('what keeps it from being made is told, and no failure', async (t) => {
  const fails: Make = async () => {
    throw new YavmError('YAVM_E_TEMPLATE', 'no room');
  };
  const { lines, records } = await tried(provider(t), fails);
  t.strictSame(lines, ['  no template for activities: no room']);
  t.match(records, [{ level: 'warn', message: /their VMs boot/ }]);
  const wrong = await tried(provider(t), makes, { YA_VM_START: 'warm' });
  t.match(wrong.lines, [/YA_VM_START=warm/]);
});

t.test('a signal is', async (t) => {
  const signal = AbortSignal.abort(new Error('enough'));
  const making = makeProviderTemplate({ env: { YA_VM_START: '' }, log: recordingLogger().logger }, 'tcg', {
    ...{ say: () => {}, insists: true, work: provider(t), signal },
    make: async () => {
      throw new Error('aborted');
    },
  });
  await t.rejects(making, { message: 'enough' });
});
