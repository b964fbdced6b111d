/** native/host-face.ts: exchange. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { buildAddon } from '../../build/addon.ts';
import { loadNativeAt } from '../../native/load.ts';

const native = loadNativeAt(await buildAddon());

t.test('two folders change places; one alone does not move', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'yavm-exchange-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const [one, other] = [join(folder, 'one'), join(folder, 'other')];
  for (const path of [one, other]) {
    mkdirSync(path);
    writeFileSync(join(path, 'name'), path);
  }
  native.exchange(one, other);
  t.equal(readFileSync(join(one, 'name'), 'utf8'), other);
  t.equal(readFileSync(join(other, 'name'), 'utf8'), one);
  rmSync(other, { recursive: true });
  t.throws(() => native.exchange(one, other), { code: 'ENOENT', syscall: 'renameat2' });
  t.equal(readFileSync(join(one, 'name'), 'utf8'), other);
});
