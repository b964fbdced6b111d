/** The commands in docs/ci.md's files, as a CI system would run them. */
import { readSource } from './source-tree.ts';

/** One file of the page. */
export interface CiFile {
  /** Shell lines of its steps, in order. */
  lines: string[];
}

/** The page's YAML blocks. Reads what such files use: `run: |` blocks, and items of `script:`. */
export function ciFiles(): CiFile[] {
  const blocks = [...readSource('docs/ci.md').matchAll(/^```yaml\n(.*?)^```$/gms)];
  return blocks.map(([, text = '']) => ({ lines: shellLines(text.split('\n')) }));
}

function shellLines(lines: readonly string[]): string[] {
  const found: string[] = [];
  let inside: { item: RegExp; indent: number } | null = null;
  for (const line of lines) {
    const indent = line.search(/\S/);
    if (inside && indent <= inside.indent) inside = null;
    const opened = /^\s*(run: \||script:)$/.exec(line);
    if (opened) inside = { indent, item: opened[1] === 'script:' ? /^\s*- (.*)$/ : /^\s*(.*)$/ };
    else if (inside) found.push((inside.item.exec(line) ?? [])[1] ?? '');
  }
  return found;
}
