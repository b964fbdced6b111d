/** A repository of small packages in a folder, which apt reads as any other: no network, no keys, no root. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { writeFiles } from './driver-files.ts';

export interface FakePackage {
  name: string;
  version: string;
  depends?: string;
  /** Path in the package → content. */
  files?: Record<string, Buffer>;
  /** Path in the package → target. */
  links?: Record<string, string>;
}

/** @returns the path of a sources.list that names it. */
export function makeRepository(folder: string, packages: readonly FakePackage[]): string {
  const repository = join(folder, 'repository');
  mkdirSync(repository, { recursive: true });
  const index = packages.map(({ name, version, depends, files = {}, links = {} }, number) => {
    const tree = join(folder, 'packages', String(number));
    const fields = [
      ...[`Package: ${name}`, `Version: ${version}`, 'Architecture: amd64', 'Maintainer: x <x@x>'],
      ...(depends === undefined ? [] : [`Depends: ${depends}`]),
      'Description: x',
    ];
    writeFiles(tree, { ...files, 'DEBIAN/control': Buffer.from(`${fields.join('\n')}\n`) });
    for (const [path, target] of Object.entries(links)) {
      mkdirSync(dirname(join(tree, path)), { recursive: true });
      symlinkSync(target, join(tree, path));
    }
    const file = `${name}_${number}.deb`;
    execFileSync('dpkg-deb', ['--root-owner-group', '-Zgzip', '-b', tree, join(repository, file)], {
      stdio: 'pipe',
    });
    const bytes = readFileSync(join(repository, file));
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    return [...fields, `Filename: ./${file}`, `Size: ${bytes.length}`, `SHA256: ${sha256}`, ''].join('\n');
  });
  writeFileSync(join(repository, 'Packages'), index.join('\n'));
  const list = join(folder, 'sources.list');
  writeFileSync(list, `deb [trusted=yes] file:${repository} ./\n`);
  return list;
}
