/** A VM in huge pages that the host has set aside. The host stays as it is: without free pages there is nothing to try. */
import { readFileSync } from 'node:fs';
import t from 'tap';
import { checkHugepages } from '../../host/runtime/hugepages.ts';
import { shell, startTestVm } from '../lib/vm.ts';

const MEMORY_MIB = 256;

t.setTimeout(0);

function missingPages(): string | false {
  try {
    checkHugepages('2M', MEMORY_MIB);
    return false;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

const skip = missingPages();

t.test('all of its memory is in them, whole pages of what was asked for', { skip }, async (t) => {
  const vm = await startTestVm(t, { memoryMiB: MEMORY_MIB + 1, hugepages: '2M' });
  const status = readFileSync(`/proc/${vm.pid}/status`, 'latin1');
  const [, used] = /^HugetlbPages:\s+(\d+) kB$/m.exec(status) ?? [];
  t.equal(Number(used), MEMORY_MIB * 1024);
  t.equal(await shell(vm, 'echo works'), 'works\n');
});
