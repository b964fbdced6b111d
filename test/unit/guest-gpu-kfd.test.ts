/** AMD's /dev/kfd, with trees as amdkfd's source writes them (kfd_topology.c, kfd_chardev.c). */
import t from 'tap';
import { setUpWith } from '../../guest/gpu/set-up.ts';
import { addFile, type FakeOptions, fakeGpu, pciDevice } from '../lib/fake-gpu.ts';

const NODES = '/sys/class/kfd/kfd/topology/nodes';
const CPU = 'cpu_cores_count 4\nsimd_count 0\nvendor_id 0\ndrm_render_minor 0\nlocal_mem_size 0\n';

/** As Linux 6.1 writes those of an RX 6800. */
function gpuProperties(minor: number): string {
  return [
    ...['cpu_cores_count 0', 'simd_count 120', 'mem_banks_count 1', 'gfx_target_version 100300'],
    ...['vendor_id 4098', 'device_id 29631', 'location_id 256', 'domain 0', `drm_render_minor ${minor}`],
    ...['hive_id 0', 'num_sdma_engines 2', 'max_engine_clk_fcompute 2475', ''],
  ].join('\n');
}

/** Cards at 01:00.0 and on; each has its DRM nodes when amdgpu has loaded, and `kfd` is what the topology then says of each node. */
function amd(cards: number, kfd: string[] | null, options: Partial<FakeOptions> = {}) {
  const slots = Array.from({ length: cards }, (_, index) => `0000:0${index + 1}:00.0`);
  return fakeGpu({
    ...options,
    kernel: Object.assign({}, ...slots.map((slot) => pciDevice(slot, ['038000', '1002', '73bf']))),
    onLoad: (name, files) => {
      if (name !== 'amdgpu') return;
      for (const [index, slot] of slots.entries())
        for (const node of [`card${index}`, `renderD${128 + index}`])
          addFile(files, `/sys/bus/pci/devices/${slot}/drm/${node}/dev`, '');
      if (kfd === null) return;
      addFile(files, '/sys/class/kfd/kfd/dev', '234:0\n');
      for (const [index, text] of kfd.entries()) {
        addFile(files, `${NODES}/${index}/gpu_id`, index === 0 ? '0\n' : `${40_000 + index}\n`);
        addFile(files, `${NODES}/${index}/properties`, text);
      }
    },
  });
}

t.test(
  'a card that computes: kfd is among its nodes, and open to anybody or to the group render',
  async (t) => {
    const open = amd(1, [CPU, gpuProperties(128)]);
    const [gpu] = await setUpWith(open.context, {}, null);
    t.strictSame(gpu?.nodes, ['/dev/dri/card0', '/dev/dri/renderD128', '/dev/kfd']);
    t.strictSame(open.warnings, []);
    t.strictSame(open.done(), [
      'load amdgpu',
      ...['dri/card0', 'dri/renderD128', 'kfd'].map((node) => `chmod ${node} 666`),
    ]);
    t.equal(open.fake.open.size, 0);

    const grouped = amd(1, [CPU, gpuProperties(128)], {
      root: { 'etc/group': 'render:x:105:ann\nvideo:x:44:\n' },
    });
    await setUpWith(grouped.context, {}, null);
    t.strictSame(grouped.done().slice(-2), ['chown kfd 0:105', 'chmod kfd 660']);
  },
);

t.test('two cards, of which kfd takes one: the other draws, and a warning says so', async (t) => {
  const { context, warnings } = amd(2, [CPU, gpuProperties(129)]);
  const gpus = await setUpWith(context, {}, null);
  t.strictSame(
    gpus.map(({ nodes }) => nodes.includes('/dev/kfd')),
    [false, true],
  );
  t.equal(warnings.length, 1);
  t.match(warnings[0], /^0000:01:00\.0 \(1002:73bf\): draws, but .*kfd does not take it$/);
});

t.test('both cards compute: kfd is a node of each', async (t) => {
  const { context, warnings } = amd(2, [CPU, gpuProperties(128), gpuProperties(129)]);
  const gpus = await setUpWith(context, {}, null);
  t.strictSame(
    gpus.map(({ nodes }) => nodes),
    [0, 1].map((index) => [`/dev/dri/card${index}`, `/dev/dri/renderD${128 + index}`, '/dev/kfd']),
  );
  t.strictSame(warnings, []);
});

t.test(
  'a kernel without kfd, and a topology that says nothing: no node, a warning, no failure',
  async (t) => {
    const CASES: [kfd: string[] | null, why: RegExp][] = [
      [null, /the kernel has no kfd$/],
      [[CPU], /does not take it$/],
      // Minor 0 and a name that only begins so are no card's.
      [
        [CPU, 'drm_render_minor 0\n', 'drm_render_minor_128 128\n', 'drm_render_minor 128x\n', ''],
        /does not take it$/,
      ],
    ];
    for (const [kfd, why] of CASES) {
      const { context, warnings, done } = amd(1, kfd);
      const [gpu] = await setUpWith(context, {}, null);
      t.strictSame(gpu?.nodes, ['/dev/dri/card0', '/dev/dri/renderD128']);
      t.match(warnings, [why]);
      t.notOk(done().some((step) => step.includes('kfd')));
    }
  },
);
