/** Volumes: which become disks, what is left for the root, and what cannot be. */
import t from 'tap';
import { planVolumes, type VolumeRequest, volumePath } from '../../host/runtime/volume-plan.ts';

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;

function plan(asked: Record<string, VolumeRequest>, storage: number = 10 * GIB, image: string[] = []) {
  return planVolumes(image, Object.entries(asked), storage);
}

t.test("an image's volumes and the requestor's: what was asked for counts", async (t) => {
  const asked: Record<string, VolumeRequest> = {
    '/in//': { kind: 'host' },
    '/ram': { kind: 'ram', size: 5000 },
    '/a/./b': { kind: 'storage', size: GIB, errors: 'continue', preallocate: 2 * GIB },
  };
  t.strictSame(plan(asked, 10 * GIB, ['/out', '/ram', '/in']), {
    directories: ['/out', '/in'],
    mounts: [{ kind: 'ram', size: 8192, path: '/ram' }],
    disks: [{ path: '/a/b', size: GIB, preallocate: GIB, errors: 'continue' }],
    root: { disk: 9 * GIB },
  });
  t.strictSame(plan({}), { directories: [], mounts: [], disks: [], root: { disk: 10 * GIB } });
});

t.test('the root: its disk gets the rest, unless a volume is asked for there', async (t) => {
  const data: VolumeRequest = { kind: 'storage', size: 4 * GIB };
  t.strictSame(plan({ '/data': data }).root, { disk: 6 * GIB });
  t.strictSame(plan({ '/data': data, '/': { kind: 'ram', size: MIB } }).root, { ram: MIB });
  t.strictSame(plan({ '/data': data, '/': { kind: 'storage', size: GIB, errors: 'panic' } }).root, {
    disk: GIB,
    errors: 'panic',
  });
  t.strictSame(plan({ '/s': { kind: 'storage', size: 1 } }).disks, [{ path: '/s', size: 16 * MIB }]);
});

t.test('more than the agreement has is refused with the sums', async (t) => {
  const cases: [asked: Record<string, VolumeRequest>, storage: number, message: RegExp | null][] = [
    [{ '/d': { kind: 'storage', size: 10 * GIB - 16 * MIB } }, 10 * GIB, null],
    [{ '/d': { kind: 'storage', size: 10 * GIB - 15 * MIB } }, 10 * GIB, /root's disk needs 16 MiB/],
    [
      { '/d': { kind: 'storage', size: 3 * GIB }, '/e': { kind: 'storage', size: 2 * GIB } },
      4 * GIB,
      /ask for 5 GiB \(\/d 3 GiB, \/e 2 GiB\) of the agreement's 4 GiB.*: 5368709120 of 4294967296 bytes/,
    ],
    [{ '/': { kind: 'storage', size: 10 * GIB } }, 10 * GIB, null],
    [
      { '/': { kind: 'storage', size: 10 * GIB + 4096 } },
      10 * GIB,
      /ask for 10 GiB .* of the agreement's 10 GiB: 10737422336 of/,
    ],
    [{ '/d': { kind: 'storage', size: GIB }, '/': { kind: 'ram', size: GIB } }, GIB, null],
  ];
  for (const [asked, storage, message] of cases) {
    if (message) t.throws(() => plan(asked, storage), { code: 'YAVM_E_STORAGE_OVERCOMMIT', message });
    else t.doesNotThrow(() => plan(asked, storage));
  }
});

t.test('sizes that came rounded give way, as far as rounding can have made them larger', async (t) => {
  const rounded = (size: number, least: number): VolumeRequest => ({ kind: 'storage', size, least });
  // 5 GiB, sent as 5.4 GB.
  const asked = { '/': rounded(5.4e9, 5.35e9) };
  t.strictSame(plan(asked, 5 * GIB).root, { disk: 5 * GIB });
  t.throws(() => plan(asked, 4.9 * GIB), { code: 'YAVM_E_STORAGE_OVERCOMMIT' });
  const two = plan({ '/a': rounded(2.2e9, 2.15e9), '/b': rounded(2.2e9, 2.15e9) }, 4 * GIB + 64 * MIB);
  const [a, b] = two.disks;
  const sum = (a?.size ?? 0) + (b?.size ?? 0);
  t.ok('disk' in two.root && two.root.disk >= 16 * MIB && sum + two.root.disk === 4 * GIB + 64 * MIB);
  t.ok((a?.size ?? 0) >= 2.15e9 && (b?.size ?? 0) >= 2.15e9);
});

t.test('volumes that cannot be', async (t) => {
  const cases: Record<string, VolumeRequest>[] = [
    { '/': { kind: 'host' } },
    { '//.': { kind: 'host' } },
    { 'no/slash': { kind: 'host' } },
    { '': { kind: 'host' } },
    { '/a/../b': { kind: 'host' } },
    { '/nul\0': { kind: 'host' } },
    { [`/${'x'.repeat(5000)}`]: { kind: 'host' } },
    { '/r': { kind: 'ram', size: 0 } },
    { '/r': { kind: 'ram', size: Number.MAX_SAFE_INTEGER } },
    { '/s': { kind: 'storage', size: 0 } },
    { '/s': { kind: 'storage', size: Number.NaN } },
    { '/s': { kind: 'storage', size: GIB, errors: 'remount-rw,dax' } },
  ];
  for (const asked of cases) t.throws(() => plan(asked), { code: 'YAVM_E_VOLUME' }, JSON.stringify(asked));
  t.equal(volumePath('/a//./b/'), '/a/b');
});
