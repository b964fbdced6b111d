/** What an offer says of graphics cards: exactly, from nvidia-smi's words to properties; descriptors; the self-test. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { ourDescriptor } from '../../host/provider/descriptor.ts';
import {
  decodeGpuFacts,
  type GpuFacts,
  namelessCards,
  parseNvidiaSmi,
} from '../../host/provider/gpu-facts.ts';
import { gpuProperties } from '../../host/provider/gpu-offer.ts';
import { install } from '../../host/provider/install.ts';
import { offerTemplate } from '../../host/provider/offer.ts';
import { readVerdict, type Verdict, writeVerdict } from '../../host/provider/verdict.ts';

const GIB = 1024 ** 3;

const card = (bus: string, model: string, total: string) => `
GPU ${bus}
    Product Name                          : ${model}
    MIG Mode
        Current                           : N/A
    FB Memory Usage
        Total                             : ${total}
        Reserved                          : 563 MiB
    BAR1 Memory Usage
        Total                             : 131072 MiB
    Clocks
        Graphics                          : 210 MHz
        SM                                : 210 MHz
        Memory                            : 1593 MHz
        Video                             : 585 MHz
    Max Clocks
        Graphics                          : 1410 MHz
        SM                                : 1410 MHz
        Memory                            : 1593 MHz
        Video                             : 1290 MHz
    Max Customer Boost Clocks
        Graphics                          : 9999 MHz
`;

const HEAD = `
==============NVSMI LOG==============

Timestamp                                 : Mon Nov 30 20:00:00 2026
Driver Version                            : 550.54.15
CUDA Version                              : 12.4

Attached GPUs                             : 2
`;

const A100: GpuFacts['cards'][number] = {
  model: 'NVIDIA A100 80GB PCIe',
  memory: 80 * GIB,
  cuda: { capability: '8.0' },
  clocks: { graphics: 1410, memory: 1593, sm: 1410, video: 1290 },
};

t.test("nvidia-smi's words", async (t) => {
  const text = HEAD + card('00000000:01:00.0', 'NVIDIA A100 80GB PCIe', '81920 MiB');
  t.strictSame(parseNvidiaSmi(text, '8.0\n'), {
    cards: [A100],
    driverVersion: '550.54.15',
    cudaVersion: '12.4',
  });
  const second = card('00000000:02:00.0', 'Tesla P40', 'N/A');
  t.strictSame(parseNvidiaSmi(text + second, '8.0\n[N/A]\n').cards[1], {
    model: 'Tesla P40',
    cuda: {},
    clocks: A100.clocks,
  });
  for (const rubbish of ['', 'NVIDIA-SMI has failed', 'GPU 00000000:01:00.0\n']) {
    t.strictSame(parseNvidiaSmi(rubbish, rubbish), { cards: [] });
  }
  t.strictSame(
    namelessCards([
      { slot: '0000:01:00.0', vendor: 0x10de, device: 0x20b5, driver: 'nvidia', nodes: [] },
      { slot: '0000:02:00.0', vendor: 0x1002, device: 0x73bf, driver: 'amdgpu', nodes: [] },
    ]),
    [{ model: '1002:73bf' }],
  );
});

t.test('properties: both prefixes, the first card flat, equal cards as a group', async (t) => {
  const other = {
    model: 'Tesla T4',
    memory: 15.75 * GIB,
    bandwidth: 298 * GIB,
    cuda: { capability: '7.5', cores: 2560 },
  };
  const facts = { cards: [A100, other, { ...A100 }], driverVersion: '550.54.15', cudaVersion: '12.4' };
  const expected: [string, unknown][] = [
    ['model', 'NVIDIA A100 80GB PCIe'],
    ['cuda.enabled', true],
    ['cuda.version', '12.4'],
    ['cuda.compute-capability', '8.0'],
    ['clocks.graphics.mhz', 1410],
    ['clocks.memory.mhz', 1593],
    ['clocks.sm.mhz', 1410],
    ['clocks.video.mhz', 1290],
    ['memory.total.gib', 80],
    ['cuda.driver.version', '550.54.15'],
    ['d0.model', 'NVIDIA A100 80GB PCIe'],
    ['d0.quantity', 2],
    ['d0.cuda.enabled', true],
    ['d0.cuda.caps', '8.0'],
    ['d0.clock.graphics.mhz', 1410],
    ['d0.clock.memory.mhz', 1593],
    ['d0.clock.sm.mhz', 1410],
    ['d0.clock.video.mhz', 1290],
    ['d0.memory.total.gib', 80],
    ['d1.model', 'Tesla T4'],
    ['d1.quantity', 1],
    ['d1.cuda.enabled', true],
    ['d1.cuda.cores', 2560],
    ['d1.cuda.caps', '7.5'],
    ['d1.memory.total.gib', 15.75],
    ['d1.memory.bandwidth.gib', 298],
  ];
  t.strictSame(Object.entries(gpuProperties(facts)), [
    ...expected.map(([name, value]) => [`golem.inf.gpu.${name}`, value]),
    ...expected.map(([name, value]) => [`golem.!exp.gap-35.v1.inf.gpu.${name}`, value]),
  ]);
  t.strictSame(gpuProperties({ cards: [] }), {});
  t.strictSame(gpuProperties({ cards: [{ model: '1002:73bf' }] }), {
    'golem.inf.gpu.model': '1002:73bf',
    'golem.inf.gpu.d0.model': '1002:73bf',
    'golem.inf.gpu.d0.quantity': 1,
    'golem.!exp.gap-35.v1.inf.gpu.model': '1002:73bf',
    'golem.!exp.gap-35.v1.inf.gpu.d0.model': '1002:73bf',
    'golem.!exp.gap-35.v1.inf.gpu.d0.quantity': 1,
  });
  t.equal(gpuProperties({ cards: [other] })['golem.inf.gpu.memory.total.gib'], 16, 'whole in the flat names');
});

const VERDICT: Verdict = {
  accel: 'kvm',
  cpu: { vendor: 'v', brand: 'b', model: 'm', capabilities: [] },
  capabilities: ['gpu', '!exp:gpu'],
  gpu: { cards: [A100] },
};

t.test('the offer has them; the verdict keeps them, beside that without cards', async (t) => {
  const { properties } = offerTemplate(VERDICT);
  t.match(properties, {
    'golem.runtime.capabilities': ['gpu', '!exp:gpu'],
    'golem.inf.gpu.model': 'NVIDIA A100 80GB PCIe',
    'golem.!exp.gap-35.v1.inf.gpu.d0.quantity': 1,
  });
  const folder = mkdtempSync(join(tmpdir(), 'yavm-verdict-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const { gpu: _, ...plain } = VERDICT;
  writeVerdict(folder, 'a', plain);
  writeVerdict(folder, 'b', VERDICT, 'gpu');
  t.strictSame(readVerdict(folder, 'a'), plain);
  t.strictSame(readVerdict(folder, 'b', 'gpu'), VERDICT);
  for (const bad of [
    null,
    {},
    { cards: [{}] },
    { cards: [{ model: 'x', memory: '1' }] },
    { cards: [], cudaVersion: 1 },
  ]) {
    t.equal(decodeGpuFacts(bad), null, JSON.stringify(bad));
  }
});

t.test('descriptors: vm-nvidia beside vm, with the cards in its arguments', async (t) => {
  const about = { version: '0.1.0', supervisor: '/opt/ya-vm' };
  const read = (text: string) =>
    JSON.parse(text).map((each: Record<string, unknown>) => [each.name, each['extra-args']]);
  t.strictSame(read(ourDescriptor(about)), [['vm', ['--cap-handoff']]]);
  const cards = ['0000:01:00.0', '0000:02:00.0'];
  const expected = [
    ['vm', ['--cap-handoff']],
    [
      'vm-nvidia',
      ['--cap-handoff', '--runtime-arg=--pci-device=0000:01:00.0', '--runtime-arg=--pci-device=0000:02:00.0'],
    ],
  ];
  t.strictSame(read(ourDescriptor({ ...about, cards })), expected);
  const folder = mkdtempSync(join(tmpdir(), 'yavm-plugins-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const { descriptor } = install({
    ...about,
    place: { folder, pattern: 'ya-*.json' },
    replace: false,
    cards,
  });
  t.strictSame(read(readFileSync(descriptor, 'utf8')), expected);
});
