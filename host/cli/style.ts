/** Colours: only on a terminal, never with NO_COLOR (https://no-color.org) or TERM=dumb. */
import { styleText } from 'node:util';

export interface Style {
  dim(text: string): string;
  bold(text: string): string;
  red(text: string): string;
  green(text: string): string;
  yellow(text: string): string;
}

type Environment = Readonly<Record<string, string | undefined>>;

export function colourWanted(isTTY: boolean, environment: Environment): boolean {
  return isTTY && !environment.NO_COLOR && environment.TERM !== 'dumb';
}

export function styleFor(colour: boolean): Style {
  const paint = (format: Parameters<typeof styleText>[0]) => (text: string) =>
    colour ? styleText(format, text, { validateStream: false }) : text;
  return {
    dim: paint('dim'),
    bold: paint('bold'),
    red: paint('red'),
    green: paint('green'),
    yellow: paint('yellow'),
  };
}

/** Rows as aligned columns, two spaces apart; the last column is not padded. Cells hold no colour codes. */
export function alignColumns(rows: readonly (readonly string[])[]): string[] {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [column, cell] of row.entries()) widths[column] = Math.max(widths[column] ?? 0, cell.length);
  }
  return rows.map((row) =>
    row
      .map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd((widths[column] as number) + 2)))
      .join('')
      .trimEnd(),
  );
}
