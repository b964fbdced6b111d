/** build/out/bench.json, as `make bench` wrote it some time ago. */
import type { PlotPlace } from './figure.ts';

/** What a plot needs of it. */
export interface Results {
  machine: { cpu: string; cpus: number; kernel: string; qemu: string; accel: string; date: string };
  benches: readonly { bench: string; figures: readonly PlotFigure[] }[];
}

export interface PlotFigure {
  what: string;
  value: number;
  plot?: PlotPlace;
}

/** @throws {Error} which part is not what it has to be */
export function decodeResults(value: unknown): Results {
  const { machine, results } = asMap(value, 'bench.json');
  const facts = asMap(machine, 'machine');
  const fact = (key: string) => asText(facts[key], `machine.${key}`);
  return {
    machine: {
      ...{ cpu: fact('cpu'), cpus: asNumber(facts.cpus, 'machine.cpus'), kernel: fact('kernel') },
      ...{ qemu: fact('qemu'), accel: fact('accel'), date: fact('date') },
    },
    benches: asList(results, 'results').map((each) => {
      const { bench, figures } = asMap(each, 'a result');
      return { bench: asText(bench, 'bench'), figures: asList(figures, 'figures').map(decodeFigure) };
    }),
  };
}

function decodeFigure(value: unknown): PlotFigure {
  const { what, value: number, plot } = asMap(value, 'a figure');
  const figure = { what: asText(what, 'what'), value: asNumber(number, `the value of "${what}"`) };
  return plot === undefined ? figure : { ...figure, plot: decodePlace(plot) };
}

function decodePlace(value: unknown): PlotPlace {
  const { group, bar, phase } = asMap(value, 'plot');
  const place = { group: asText(group, 'group'), bar: asText(bar, 'bar') };
  return phase === undefined ? place : { ...place, phase: asText(phase, 'phase') };
}

function asMap(value: unknown, what: string): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>;
  throw new Error(`${what} is no object`);
}

function asList(value: unknown, what: string): unknown[] {
  if (Array.isArray(value)) return value;
  throw new Error(`${what} is no list`);
}

function asText(value: unknown, what: string): string {
  if (typeof value === 'string' && value !== '') return value;
  throw new Error(`${what} is no text`);
}

function asNumber(value: unknown, what: string): number {
  if (typeof value === 'number' && Number.isFinite(value)) return value;
  throw new Error(`${what} is no number`);
}
