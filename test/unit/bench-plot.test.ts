import { readFileSync } from 'node:fs';
import t from 'tap';
import { decodeResults } from '../bench/results.ts';
import { startPlot } from '../bench/start-plot.ts';

const MACHINE = {
  cpu: 'Intel(R) Xeon(R) Processor',
  cpus: 2,
  kernel: '6.18.44-of-a-host',
  qemu: 'QEMU emulator version 7.2.22 (Debian)',
  accel: 'tcg',
  date: '2026-12-01T03:00:00.000Z',
};
const GROUP = 'start → first <answer>';
const FIGURES = [
  { what: 'pairs', value: 20 },
  { what: 'a ratio', value: 0.05, limit: { atMost: 0.06 } },
  { what: 'cold', value: 2000, plot: { group: GROUP, bar: 'cold' } },
  { what: 'template', value: 100, plot: { group: GROUP, bar: 'template' } },
  { what: 'QEMU', value: 40, plot: { group: GROUP, bar: 'template', phase: 'QEMU' } },
  { what: 'restore', value: 60, plot: { group: GROUP, bar: 'template', phase: 'restore' } },
];
const results = (figures: object[] = FIGURES, machine: object = MACHINE) =>
  decodeResults({
    machine,
    results: [
      { bench: 'boot', figures: [] },
      { bench: 'template', figures },
    ],
  });

t.test('bars are on one scale, and phases follow each other', async (t) => {
  const svg = startPlot(results());
  const bars = [...svg.matchAll(/<rect x="([\d.]+)" y="(\d+)" width="([\d.]+)"/g)].map((match) =>
    match.slice(1).map(Number),
  );
  t.equal(bars.length, 3, 'a bar without phases is one piece');
  const [cold, qemu, restore] = bars as [number[], number[], number[]];
  t.equal(cold[0], qemu[0]);
  t.equal(qemu[1], restore[1]);
  t.ok((cold[1] as number) < (qemu[1] as number));
  // A pixel is left between two.
  const share = ((restore[0] as number) - (qemu[0] as number)) / ((cold[2] as number) + 1);
  t.ok(Math.abs(share - 40 / 2000) < 0.001, String(share));
});

t.test('names, times, the machine and the date are in it, and no host', async (t) => {
  const svg = startPlot(results());
  for (const text of [
    'start → first &lt;answer&gt;',
    'cold · 2.00 s',
    'template · 100 ms',
    '</tspan> QEMU 40 ms',
  ]) {
    t.match(svg, text);
  }
  t.match(
    svg,
    'medians of 20 pairs, alternating · Intel Xeon Processor, 2 CPUs · Linux 6.18, QEMU 7.2, emulated (TCG) · 2026-12-01',
  );
  t.notMatch(svg, 'of-a-host');
  t.match(svg, 'prefers-color-scheme: dark');
});

t.test('a long list of phases goes on in the next line', async (t) => {
  const phases = Array.from({ length: 12 }, (_, index) => ({
    what: `phase ${index}`,
    value: 100,
    plot: { group: GROUP, bar: 'cold', phase: `the phase ${index}` },
  }));
  const lines = startPlot(results([...FIGURES, ...phases])).match(/<text class="phases"/g);
  t.equal(lines?.length, 3 + 1 + 1, 'three lines of the one bar, one of the other, and the machine');
});

t.test('what cannot be plotted is an error', async (t) => {
  t.throws(() => startPlot(results([{ what: 'pairs', value: 20 }])), /no starts were measured/);
  t.throws(() => decodeResults([]), /bench.json is no object/);
  t.throws(() => results([{ what: 'x', value: '1' }]), /the value of "x" is no number/);
  t.throws(() => results(FIGURES, { ...MACHINE, cpus: undefined }), /machine.cpus is no number/);
  t.throws(() => results([{ what: 'x', value: 1, plot: { group: '' } }]), /group is no text/);
});

t.test('the one in docs is of this form, and its page shows it', async (t) => {
  t.match(
    readFileSync('docs/template-starts.svg', 'utf8'),
    /^<svg [^>]*viewBox[\s\S]*template[\s\S]*<\/svg>\n$/,
  );
  t.match(readFileSync('docs/templates.md', 'utf8'), '](template-starts.svg)');
});
