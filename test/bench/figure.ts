/** What a bench says: figures, some of which have a limit. Ratios are judged, absolute figures are for reading. */

export type Unit = 'ms' | 'MB/s' | 'MB' | '×' | 's' | '';

export interface Figure {
  /** What was measured, unique within its bench. */
  what: string;
  value: number;
  unit: Unit;
  /** The figure that must be reached. An `aim` depends on the machine and is shown, not judged. */
  limit?: { atMost: number } | { atLeast: number };
  aim?: { atMost: number } | { atLeast: number };
  /** Where it is in the plot of `make bench-report`. */
  plot?: PlotPlace;
}

/** Bars of one group are compared. A figure without a phase is the bar's whole. */
export interface PlotPlace {
  group: string;
  bar: string;
  phase?: string;
}

export interface BenchResult {
  bench: string;
  figures: Figure[];
  /** Why a bench did not run. */
  failure?: string;
}

/** `ok` or `over` where there is a limit, else nothing. */
export function verdict(figure: Figure): 'ok' | 'over' | '' {
  return figure.limit ? (meets(figure.value, figure.limit) ? 'ok' : 'over') : '';
}

function meets(value: number, limit: { atMost: number } | { atLeast: number }): boolean {
  return 'atMost' in limit ? value <= limit.atMost : value >= limit.atLeast;
}

/** The results as a table of text. */
export function table(results: BenchResult[]): string[] {
  const rows = [['bench', 'figure', 'value', 'limit', '']];
  for (const { bench, figures, failure } of results) {
    if (failure) rows.push([bench, failure, '', '', 'FAILED']);
    for (const figure of figures) {
      rows.push([bench, figure.what, format(figure.value, figure.unit), bound(figure), verdict(figure)]);
    }
  }
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => [...row[column]!].length)));
  return rows.map((row) =>
    row
      .map((cell, column) =>
        column === 2 ? pad(cell, widths[column]!, true) : pad(cell, widths[column]!, false),
      )
      .join('  ')
      .trimEnd(),
  );
}

function bound({ limit, aim, unit }: Figure): string {
  const text = (bound: { atMost: number } | { atLeast: number }) =>
    'atMost' in bound ? `≤ ${format(bound.atMost, unit)}` : `≥ ${format(bound.atLeast, unit)}`;
  if (limit) return text(limit);
  return aim ? `(aim ${text(aim)})` : '';
}

function format(value: number, unit: Unit): string {
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  return unit ? `${value.toFixed(digits)} ${unit}` : value.toFixed(digits);
}

function pad(text: string, width: number, right: boolean): string {
  const fill = ' '.repeat(width - [...text].length);
  return right ? fill + text : text + fill;
}

/** Value below which a share `p` (0…1) of the sorted samples lies; the nearest sample. */
export function percentile(samples: number[], p: number): number {
  const sorted = [...samples].sort((a, b) => a - b);
  if (sorted.length === 0) throw new RangeError('no samples');
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(p * sorted.length) - 1))]!;
}

export function median(samples: number[]): number {
  const sorted = [...samples].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  if (sorted.length === 0) throw new RangeError('no samples');
  return sorted.length % 2 ? sorted[Math.floor(middle)]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
