/** `ya-vm template list`, of templates that no QEMU has made. */
import { utimesSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { templateList } from '../../host/cli/template.ts';
import { TemplateStore } from '../../host/runtime/template/store.ts';
import { testContext } from '../lib/cli.ts';
import { templateKey as key, putTemplate } from '../lib/templates.ts';

t.test('list: when each was made, how often it was used, and which are due to be made anew', async (t) => {
  const folder = t.testdir();
  for (const index of [1, 2]) {
    await putTemplate(folder, key(index));
    const used = new Date(Date.now() - index * 3_600_000);
    utimesSync(join(folder, key(index), 'template.json'), used, used);
  }
  const store = new TemplateStore({ YA_VM_TEMPLATES: folder, YA_VM_TEMPLATES_RENEW_STARTS: '2' });
  for (const index of [1, 1, 2]) store.countStart(key(index));
  const table = testContext();
  t.equal(await templateList(table, {}, store), 0);
  const [head, ...rows] = table.out().trimEnd().split('\n');
  t.match(head, /^KEY +MEMORY +CPUS +ACCEL +KERNEL +SIZE +MADE +STARTS +USED$/);
  t.match(rows, [/^1{8} +256 MiB +1 +tcg .* ago, due +2 +1 h ago$/, /^2{8} .* h ago +1 +2 h ago$/]);
  const json = testContext();
  await templateList(json, { json: true }, store);
  t.match(JSON.parse(json.out()), [
    { key: key(1), made: '2026-01-01T00:00:00.000Z', starts: 2, due: '2 VMs have started from it' },
    { key: key(2), starts: 1, due: null },
  ]);
});

t.test('list: none', async (t) => {
  const context = testContext();
  t.equal(await templateList(context, {}, new TemplateStore({ YA_VM_TEMPLATES: '/none' })), 0);
  t.equal(context.out(), 'no templates in /none\n');
});
