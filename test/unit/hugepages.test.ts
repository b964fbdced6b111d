/** Memory in huge pages: what the host must have, on trees made from data, and QEMU's arguments. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { checkHugepages, touchingTime, wholePages } from '../../host/runtime/hugepages.ts';
import { qemuArguments } from '../../host/runtime/qemu-arguments.ts';
import { whyCold } from '../../host/runtime/template/shape.ts';
import { QEMU_SPEC } from '../lib/qemu-spec.ts';

/** A host's sysfs: pages of each size, as nr, free and reserved. */
function host(
  t: { teardown(work: () => void): unknown },
  pools: Record<number, [nr: string, free: string, reserved?: string]>,
): string {
  const sys = mkdtempSync(join(tmpdir(), 'yavm-hugepages-'));
  t.teardown(() => rmSync(sys, { recursive: true, force: true }));
  for (const [kilobytes, [nr, free, reserved]] of Object.entries(pools)) {
    const folder = join(sys, `kernel/mm/hugepages/hugepages-${kilobytes}kB`);
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, 'nr_hugepages'), `${nr}\n`);
    writeFileSync(join(folder, 'free_hugepages'), `${free}\n`);
    if (reserved !== undefined) writeFileSync(join(folder, 'resv_hugepages'), `${reserved}\n`);
  }
  return sys;
}

t.test('pages that are there, and pages that others were promised', (t) => {
  checkHugepages('2M', 1024, host(t, { 2048: ['512', '512', '0'] }));
  checkHugepages('1G', 4096, host(t, { 1048576: ['8', '4', '0'] }));
  const some = host(t, { 2048: ['600', '520', '10'] });
  t.throws(() => checkHugepages('2M', 1024, some), {
    code: 'YAVM_E_HUGEPAGES',
    message: '512 free huge pages of 2M are needed, and the host has 510 of 600',
    hint: `echo 602 | sudo tee ${some}/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages; for good: hugepagesz=2M hugepages=602 among the kernel's words`,
  });
  t.throws(() => checkHugepages('1G', 2048, host(t, { 1048576: ['0', '0'] })), {
    code: 'YAVM_E_HUGEPAGES',
    hint: /^hugepagesz=1G hugepages=2 among the kernel's words; or at once/,
  });
  t.throws(() => checkHugepages('1G', 2048, some), {
    code: 'YAVM_E_HUGEPAGES',
    message: /no huge pages of 1G/,
  });
  for (const broken of [host(t, { 2048: ['x', '1'] }), host(t, { 2048: ['1', '-1'] })])
    t.throws(() => checkHugepages('2M', 2, broken), { code: 'YAVM_E_HUGEPAGES' });
  t.end();
});

t.test('memory is whole pages, never more than asked for', (t) => {
  t.strictSame(wholePages({ memoryMiB: 513 }), { memoryMiB: 513 });
  t.strictSame(wholePages({ memoryMiB: 513, hugepages: '2M' }), { memoryMiB: 512, hugepages: '2M' });
  t.strictSame(wholePages({ memoryMiB: 16_478, hugepages: '1G' }), { memoryMiB: 16_384, hugepages: '1G' });
  t.throws(() => wholePages({ memoryMiB: 256, hugepages: '1G' }), {
    code: 'YAVM_E_HUGEPAGES',
    hint: /--hugepages 2M/,
  });
  t.equal(touchingTime({ memoryMiB: 1024 }), 0);
  t.equal(touchingTime({ memoryMiB: 8192, hugepages: '2M' }), 16_000);
  t.end();
});

t.test("QEMU's arguments: one memfd, its own or shared with a file server, touched at the start", (t) => {
  const memoryOf = (change: Partial<typeof QEMU_SPEC>) => {
    const args = qemuArguments({ ...QEMU_SPEC, ...change });
    t.equal(
      args.some((each) => each.endsWith(',memory-backend=memory')),
      change.hugepages !== undefined,
    );
    return args.find((each) => each.startsWith('memory-backend-'));
  };
  t.equal(memoryOf({}), undefined);
  const all = 'size=512M,hugetlb=on,hugetlbsize';
  t.equal(
    memoryOf({ hugepages: '2M' }),
    `memory-backend-memfd,id=memory,${all}=2M,share=off,prealloc=on,prealloc-threads=2`,
  );
  t.equal(
    memoryOf({ hugepages: '1G', shares: [{ kind: 'virtiofs', tag: 'x', fd: 9 }] }),
    `memory-backend-memfd,id=memory,${all}=1G,share=on,prealloc=on,prealloc-threads=2`,
  );
  t.match(whyCold({ hugepages: '2M' }), /huge pages/);
  t.end();
});
