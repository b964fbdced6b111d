/** Volumes on disks of their own, beside the root's: each with its size, given back to the host when it is emptied, and counted. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { planVm } from '../../host/exe-unit/deployment.ts';
import type { Flex } from '../../host/gsb/types.ts';
import { verifyImage } from '../../host/image/verify.ts';
import type { Vm } from '../../host/runtime/index.ts';
import { begin, perform, sh } from '../lib/exe-unit-activity.ts';
import { makeImage } from '../lib/images.ts';
import { waitUntil } from '../lib/processes.ts';
import { eventually } from '../lib/running.ts';
import { bootAssets, DEMO_IMAGE, privateEnvironment, run, shell, startTestVm } from '../lib/vm.ts';

t.setTimeout(0);
const MIB = 1024 * 1024;
const folder = privateEnvironment(t).XDG_RUNTIME_DIR as string;

/** Total and free KiB of the file system at `path`. */
async function space(vm: Vm, path: string): Promise<{ total: number; free: number }> {
  const fields = (await shell(vm, `df -P -k ${path} | tail -n 1`)).trim().split(/\s+/).map(Number);
  return { total: fields[1] as number, free: fields[3] as number };
}

/** Fills a file with noise, sees the host's disk taken; deletes it, and sees it given back. */
async function fillAndEmpty(t: Test, vm: Vm, file: string, mebibytes: number): Promise<void> {
  await shell(vm, 'sync');
  const before = vm.diskAllocated;
  await shell(vm, `dd if=/dev/urandom of=${file} bs=1M count=${mebibytes} 2>/dev/null && sync`);
  const full = vm.diskAllocated;
  t.ok(
    full >= before + mebibytes * MIB * 0.98,
    `${file}: ${before} bytes, ${full} with ${mebibytes} MiB written`,
  );
  await shell(vm, `rm ${file} && sync`);
  // Discarded once the journal has the transaction that freed the blocks.
  const milliseconds = await waitUntil(() => vm.diskAllocated < full - mebibytes * MIB * 0.95, 60_000);
  t.not(milliseconds, null, `${vm.diskAllocated} bytes after it was deleted`);
}

t.test('disks of their own, beside the root', async (t) => {
  const image = join(folder, 'volumes.gvmi');
  const pseudo = ['home d 755 0 0', 'home/work d 770 0 0', 'var/lib/app m 700 0 0'];
  const user = { Volumes: { '/var/lib/app': {}, '/made': {} }, User: '1000:1000' };
  makeImage(image, { files: { 'var/lib/app/seed': 'of the image' }, pseudo, config: user });
  const { config } = await verifyImage(image);
  const spec = planVm({
    deployment: {
      image,
      config,
      command: {
        ...{ kind: 'deploy', source: {}, networks: [], hosts: {}, env: {} },
        volumes: {
          '/data': { kind: 'storage', size: 96 * MIB },
          '/home/work': { kind: 'storage', size: 16 * MIB, errors: 'continue', preallocate: 16 * MIB },
          '/data/nested': { kind: 'ram', size: 8 * MIB },
        },
      },
    },
    limits: { 'mem.gib': 0.25, 'storage.gib': 0.25, 'cpu.threads': 1 },
    assets: bootAssets(),
    accel: 'tcg',
    diskFolder: folder,
    title: 'volumes',
  });
  t.equal('disk' in spec.root && spec.root.disk, (256 - 96 - 16) * MIB);
  const layers = [...spec.layers, DEMO_IMAGE];
  const vm = await startTestVm(t, { ...spec, layers });

  t.test('each has the size that was asked for; the root has the rest', async (t) => {
    for (const [path, mebibytes] of [
      ['/', 144],
      ['/data', 96],
      ['/home/work', 16],
    ] as const) {
      const { free } = await space(vm, path);
      t.ok(free >= mebibytes * 1024 && free < mebibytes * 1024 * 1.01 + 4096, `${path}: ${free} KiB`);
    }
    t.equal((await space(vm, '/data/nested')).total, 8 * 1024, 'and one in memory inside');
    const mounts = await shell(vm, 'grep -E "^/dev/vd" /proc/mounts');
    t.match(mounts, / \/data ext4 rw,nodev,[^\n]*discard[^\n]*errors=remount-ro/);
    // The kernel's default is not written out.
    t.match(mounts, / \/home\/work ext4 rw,nodev,relatime,discard,noinit_itable /);
    t.equal(await shell(vm, 'ls -A /data'), 'nested\n', 'it is empty: no lost+found');
    t.equal(await shell(vm, "stat -c '%a %u:%g' /home/work /data"), '770 0:0\n755 0:0\n', "the image's mode");
  });

  t.test("an image's volume has the image's content, and lies in the root's quota", async (t) => {
    t.equal(await shell(vm, 'cat /var/lib/app/seed'), 'of the image');
    t.equal(
      await shell(vm, 'echo more >>/var/lib/app/seed; touch /made/x; cat /var/lib/app/seed'),
      'of the imagemore\n',
    );
    const [root, volume] = [await space(vm, '/'), await space(vm, '/var/lib/app')];
    t.equal(volume.total, root.total);
    t.equal(await shell(vm, "stat -c '%a %u:%g' /var/lib/app /made"), '700 0:0\n755 0:0\n');
  });

  t.test('writable at once, and no further than its size; the others go on', async (t) => {
    const { result, stderr } = await run(vm, [
      'dd',
      'if=/dev/zero',
      'of=/home/work/big',
      'bs=1M',
      'count=64',
    ]);
    t.equal(result.exitCode, 1);
    t.match(stderr.text, /No space left on device/);
    t.ok(Number(await shell(vm, 'stat -c %s /home/work/big')) >= 16 * MIB);
    t.equal(
      await shell(vm, 'echo on >/data/on; echo on >/on; cat /data/on /on; rm /home/work/big'),
      'on\non\n',
    );
  });

  t.test('what is deleted goes back to the host, from root and volume', async (t) => {
    await fillAndEmpty(t, vm, '/noise', 48);
    await fillAndEmpty(t, vm, '/data/noise', 48);
  });

  t.test('all of it is counted, a reserve too', async (t) => {
    const reserved = vm.diskAllocated;
    t.ok(reserved >= 16 * MIB);
    await shell(vm, 'dd if=/dev/urandom of=/home/work/noise bs=1M count=12 2>/dev/null && sync');
    t.ok(vm.diskAllocated < reserved + 8 * MIB, 'what was reserved is used');
    await shell(vm, 'rm /home/work/noise && sync && sleep 1 && sync');
    t.ok(vm.diskAllocated >= 16 * MIB, 'and is kept');
  });

  await t.test('an orderly end', async (t) => {
    await vm.stop();
    t.match(await vm.ended, { reason: 'stopped', orderly: true, error: null });
    t.equal(vm.diskAllocated, 0);
    t.strictSame(
      readdirSync(folder).filter((name) => /disk/.test(name)),
      [],
      'nothing of them has a name',
    );
  });
});

t.test('a sparse disk of hundreds of GiB beside small ones, mounted in no time', async (t) => {
  const names: [string, number][] = [];
  const vm = await startTestVm(
    t,
    {
      disks: [
        { path: '/huge', size: 400 * 1024 * MIB },
        { path: '/small', size: 16 * MIB },
        { path: '/more', size: 16 * MIB, errors: 'panic' },
      ],
    },
    { onPhase: ({ name, milliseconds }) => void names.push([name, milliseconds]) },
  );
  t.comment(names.map(([name, milliseconds]) => `${name} ${milliseconds} ms`).join(', '));
  const { free } = await space(vm, '/huge');
  t.ok(free >= 400 * 1024 * 1024 && free < 405 * 1024 * 1024, `${free} KiB`);
  t.ok(vm.diskAllocated < 64 * MIB, `${vm.diskAllocated} bytes on the host`);
  await shell(vm, 'echo x >/huge/x && echo y >/small/y && echo z >/more/z && sync');
  t.match(await shell(vm, 'grep " /more " /proc/mounts'), /errors=panic/);
});

t.test(
  'an activity: more than the agreement has is refused at deploy; the vector has the most of all disks',
  async (t) => {
    const { requestor, vms } = await begin(t);
    const deploy = (volumes: Flex): Flex[] => [{ deploy: { volumes } }];
    t.match(await perform(requestor, deploy({ '/data': { storage: { size: '0.25 GiB' } } })), [
      {
        ok: false,
        message: /ask for 256 MiB \(\/data 256 MiB\) of the agreement's 256 MiB.*YAVM_E_STORAGE_OVERCOMMIT/,
      },
    ]);
    t.strictSame(vms(), [], 'no VM was started for that');
    await perform(requestor, [{ terminate: {} }]);
    const write =
      'dd if=/dev/urandom of=/data/noise bs=1M count=48 2>/dev/null && sync && df -P -k / /data | tail -n 2';
    const script: Flex[] = [
      ...deploy({ '/data': { storage: { size: '100.7MB', errors: 'remount-ro', preallocate: null } } }),
      { start: {} },
      sh(write),
    ];
    const results = await perform(requestor, script);
    t.match(results, [{ ok: true }, { ok: true }, { ok: true }]);
    const [root = 0, data = 0] = `${results.at(-1)?.stdout}`
      .split('\n')
      .map((line) => Number(line.split(/\s+/)[1]) / 1024);
    t.ok(root > 150 && root < 180 && data > 96 && data < 110, `${root} MiB and ${data} MiB`);
    const storage = async () => ((await requestor.usage()).current?.[3] ?? 0) * 1024;
    await eventually('48 MiB are counted', async () => (await storage()) >= 48);
    await perform(requestor, [sh('rm /data/noise && sync')]);
    t.ok((await storage()) >= 48, 'for good: the vector never falls');
  },
);
