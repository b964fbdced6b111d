/**
 * A plot of starts as SVG: stacked bars on one scale, each with its phases and their milliseconds below. It stands in a page as
 * an image, so it brings its own colours, for light and for dark pages. Pure.
 */
import type { PlotFigure, Results } from './results.ts';

interface Bar {
  name: string;
  /** Milliseconds: the median of the whole, which the medians of the parts do not quite add up to. */
  whole: number;
  parts: { phase: string; milliseconds: number }[];
}

interface Group {
  name: string;
  bars: Bar[];
}

/** Middle tones, whose contrast is 3 and more to both pages' ground. What is alike has one colour in all bars. */
const COLOURS: Readonly<Record<string, string>> = {
  node: '#8250df',
  'deploy, disk': '#a371f7',
  QEMU: '#2f81f7',
  restore: '#1b9e9e',
  answer: '#4c9f50',
  kernel: '#848d97',
  agent: '#5d7290',
  drivers: '#bf8700',
  mount: '#e0702d',
  'file systems': '#e0702d',
  configure: '#d1588c',
  run: '#2da44e',
  stop: '#a0745a',
};
const OTHER = '#848d97';

/** Pixels. */
const WIDTH = 860;
const MARGIN = 16;
const BAR = 22;
const LINE = 18;
const GAP = 14;
/** Characters of the phases' line, above which it goes on in the next. */
const LINE_LENGTH = 118;

/** @throws {Error} when there is nothing to plot */
export function startPlot({ machine, benches }: Results): string {
  const figures = benches.find(({ bench }) => bench === 'template')?.figures ?? [];
  const groups = groupsOf(figures);
  if (groups.length === 0) throw new Error('no starts were measured: run the bench "template" first');
  const longest = Math.max(...groups.flatMap(({ bars }) => bars.map(widest)));
  const scale = (WIDTH - 2 * MARGIN) / longest;

  const body: string[] = [];
  let y = MARGIN + LINE;
  const text = (content: string, style: string) => {
    body.push(`<text class="${style}" x="${MARGIN}" y="${y}">${content}</text>`);
    y += LINE;
  };
  text('Starts of a VM, booted and from a template', 'title');
  for (const { name, bars } of groups) {
    y += GAP;
    text(escaped(name), 'group');
    for (const bar of bars) {
      text(`${escaped(bar.name)} · ${duration(bar.whole)}`, 'bar');
      y -= LINE - 6;
      body.push(...rectangles(bar, y, scale));
      y += BAR + LINE - 4;
      for (const line of legend(bar)) text(line, 'phases');
      y += 6;
    }
  }
  y += GAP;
  const pairs = figures.find(({ what }) => what === 'pairs')?.value;
  const counted = pairs === undefined ? 'medians' : `medians of ${pairs} pairs`;
  text(escaped(`${counted}, alternating · ${machineLine(machine)}`), 'phases');
  return document(y, body);
}

function groupsOf(figures: readonly PlotFigure[]): Group[] {
  const groups = new Map<string, Map<string, Bar>>();
  for (const { value, plot } of figures) {
    if (!plot) continue;
    const bars = groups.get(plot.group) ?? new Map<string, Bar>();
    groups.set(plot.group, bars);
    const bar = bars.get(plot.bar) ?? { name: plot.bar, whole: 0, parts: [] };
    bars.set(plot.bar, bar);
    if (plot.phase === undefined) bar.whole = value;
    else bar.parts.push({ phase: plot.phase, milliseconds: value });
  }
  return [...groups].map(([name, bars]) => ({ name, bars: [...bars.values()] }));
}

/** Milliseconds that a bar shows. */
function widest({ whole, parts }: Bar): number {
  return Math.max(
    whole,
    parts.reduce((sum, { milliseconds }) => sum + milliseconds, 0),
  );
}

function rectangles({ whole, parts }: Bar, y: number, scale: number): string[] {
  const shown = parts.length > 0 ? parts : [{ phase: 'boot', milliseconds: whole }];
  let x = MARGIN;
  return shown.map(({ phase, milliseconds }) => {
    const width = milliseconds * scale;
    // A pixel between two, where there is room for one.
    const drawn = Math.max(width > 3 ? width - 1 : width, 0.5);
    const tip = `<title>${escaped(phase)} ${duration(milliseconds)}</title>`;
    const rectangle = `<rect x="${x.toFixed(1)}" y="${y}" width="${drawn.toFixed(1)}" height="${BAR}" fill="${colourOf(phase)}">${tip}</rect>`;
    x += width;
    return rectangle;
  });
}

/** Phases with squares of their colours; the text flows, so that no width of a font has to be known. */
function legend({ parts }: Bar): string[] {
  const lines: string[][] = [];
  let length = LINE_LENGTH;
  for (const { phase, milliseconds } of parts) {
    const label = `${phase} ${duration(milliseconds)}`;
    if (length + label.length > LINE_LENGTH) {
      lines.push([]);
      length = 0;
    }
    length += label.length + 5;
    lines.at(-1)?.push(`<tspan fill="${colourOf(phase)}">■</tspan> ${escaped(label)}`);
  }
  return lines.map((line) => line.join(' &#160; '));
}

/** The machine without its name: versions alone of what else could tell one. */
function machineLine({ cpu, cpus, kernel, qemu, accel, date }: Results['machine']): string {
  const version = (text: string) => /\d+\.\d+/.exec(text)?.[0] ?? '?';
  return [
    `${cpu.replaceAll(/\((R|TM)\)/g, '')}, ${cpus} CPUs`,
    `Linux ${version(kernel)}, QEMU ${version(qemu)}, ${accel === 'kvm' ? 'KVM' : 'emulated (TCG)'}`,
    date.slice(0, 10),
  ].join(' · ');
}

function document(height: number, body: readonly string[]): string {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" role="img">`,
    '<title>Starts of a VM, booted and from a template</title>',
    '<style>',
    'svg { background: #ffffff; }',
    'text { font: 13px system-ui, sans-serif; fill: #1f2328; }',
    '.title { font-size: 16px; font-weight: 600; } .group { font-weight: 600; } .phases { font-size: 12px; fill: #59636e; }',
    '@media (prefers-color-scheme: dark) {',
    '  svg { background: #0d1117; } text { fill: #e6edf3; } .phases { fill: #9198a1; }',
    '}',
    '</style>',
    ...body,
    '</svg>',
    '',
  ].join('\n');
}

function colourOf(phase: string): string {
  return COLOURS[phase] ?? OTHER;
}

function duration(milliseconds: number): string {
  return milliseconds >= 1000 ? `${(milliseconds / 1000).toFixed(2)} s` : `${milliseconds.toFixed(0)} ms`;
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
