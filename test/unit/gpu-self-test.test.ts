/** The self-test of a VM with cards, on a VM that answers from a table. */
import t from 'tap';
import { selfTest, selfTestSpec, type TestVm } from '../../host/provider/self-test.ts';

const NVIDIA = {
  slot: '0000:01:00.0',
  vendor: 0x10de,
  device: 0x20b5,
  driver: 'nvidia',
  nodes: ['/dev/nvidia0'],
};
const AMD = { slot: '0000:01:00.0', vendor: 0x1002, device: 0x73bf, driver: 'amdgpu', nodes: [] };
const QUERY = 'CUDA Version : 12.4\nGPU 00000000:01:00.0\n    Product Name : NVIDIA A100\n';

/** Answers by the command's words; others end with 1. */
function vm(gpus: TestVm['gpus'], answers: Record<string, string>): TestVm {
  const known: Record<string, string> = { 'echo out': 'out\n', 'cat /golem': 'kept\n', ...answers };
  return {
    accel: 'kvm',
    gpus,
    async run({ argv }, sinks) {
      const words = argv.join(' ');
      const found = Object.entries(known).find(([part]) => words.includes(part));
      const bulk = words.includes('/dev/zero');
      const out = bulk ? Buffer.alloc(1024 * 1024) : Buffer.from(found?.[1] ?? '');
      await sinks?.stdout?.(out);
      if (words.includes('echo out')) await sinks?.stderr?.(Buffer.from('err\n'));
      const exitCode = words.includes('echo out') ? 7 : found || bulk ? 0 : 1;
      return { result: Promise.resolve({ exitCode, complete: true }) };
    },
    stop: async () => {},
    kill: async () => {},
  } as TestVm;
}

const test = (machine: TestVm, gpu = true) =>
  selfTest({ boot: async () => machine, say: () => {}, entrypoint: ['none'], gpu });

t.test('cards that work are in the verdict, with both capabilities', async (t) => {
  const verdict = await test(vm([NVIDIA], { 'nvidia-smi -q': QUERY, compute_cap: '8.0\n' }));
  t.strictSame(verdict.gpu, {
    cards: [{ model: 'NVIDIA A100', cuda: { capability: '8.0' } }],
    cudaVersion: '12.4',
  });
  t.strictSame(verdict.capabilities, ['manifest-support', 'gpu', '!exp:gpu']);
  t.strictSame((await test(vm([AMD], {}))).gpu, { cards: [{ model: '1002:73bf' }] });
  t.equal((await test(vm([NVIDIA], {}), false)).gpu, undefined, 'nobody asked');
});

t.test('a card that does not work is no card', async (t) => {
  const code = { code: 'YAVM_E_SELF_TEST' };
  await t.rejects(test(vm([], {})), { ...code, message: /no graphics card works/ });
  await t.rejects(test(vm([NVIDIA], {})), { ...code, message: /nvidia-smi finds the card/ });
  await t.rejects(test(vm([NVIDIA], { 'nvidia-smi -q': 'No devices were found\n' })), code);
});

t.test('its VM is larger', async (t) => {
  const about = {
    assets: { kernel: 'k', initramfs: 'i', manifest: 'm' },
    layers: ['l'],
    accel: 'kvm' as const,
  };
  const gpu = { kind: 'pci' as const, slots: ['0000:01:00.0'] };
  t.match(selfTestSpec({ ...about, gpu, driverLayer: 'd' }, { links: [] }), {
    gpu,
    driverLayer: 'd',
    memoryMiB: 2048,
  });
  t.match(selfTestSpec(about, { links: [] }), { memoryMiB: 256 });
});
