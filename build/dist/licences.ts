/** The licences of everything that is in the single program, as one text. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

export interface LicensePart {
  name: string;
  /** Path of its licence; null when it has none of its own: `note` says where it is. */
  file: string | null;
  note?: string;
}

const FILE = /^(licen[cs]e|copying)(\.(md|txt|mit))?$/i;

/** The licence file of a package below node_modules; null when it brings none. */
export function packageLicense(folder: string): string | null {
  const name = readdirSync(folder)
    .sort()
    .find((each) => FILE.test(each));
  return name === undefined ? null : join(folder, name);
}

/** @throws {Error} for a part whose licence file is not there. */
export function licencesText(parts: readonly LicensePart[]): string {
  const texts = parts.map(({ name, file, note }) => {
    if (file !== null && !existsSync(file)) throw new Error(`${name}: its licence ${file} is not there`);
    const body = file === null ? '' : `\n${readFileSync(file, 'utf8').trim()}\n`;
    return `${'='.repeat(80)}\n${name}\n${note === undefined ? '' : `${note}\n`}${body}`;
  });
  return `What is in ya-vm, and under which terms.\n\n${texts.join('\n')}`;
}

/** Folders of the packages that `sources` (paths from the repository's top) come from, sorted. */
export function packageFolders(sources: readonly string[]): string[] {
  const folders = sources.flatMap((source) => {
    const at = source.lastIndexOf('node_modules/');
    if (at < 0) return [];
    const words = source.slice(at + 'node_modules/'.length).split('/');
    const name = words[0]?.startsWith('@') ? words.slice(0, 2).join('/') : (words[0] as string);
    return [`${source.slice(0, at)}node_modules/${name}`];
  });
  return [...new Set(folders.filter((folder) => dirname(folder) !== '.'))].sort();
}
