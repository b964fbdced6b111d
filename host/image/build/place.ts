/** Where an image goes, and the file that it is until it is whole. */
import { randomBytes } from 'node:crypto';
import { readdirSync, realpathSync, rmSync, type Stats, statSync } from 'node:fs';
import { basename, dirname, join, resolve, sep } from 'node:path';
import { isAlive, startTimeOf } from '../../lib/process.ts';
import { ImageBuildError } from '../errors.ts';
import type { Source } from '../source/source.ts';

/**
 * The output's real path, links followed.
 * @throws {ImageBuildError} it could not be there: no folder, something else in its place, or inside of what is packed
 */
export function placeOf(text: string, source: Source): string {
  let folder: string;
  try {
    folder = realpathSync(dirname(resolve(text)));
  } catch (cause) {
    throw new ImageBuildError(`${text}: cannot be written`, { cause });
  }
  const there: Stats | undefined = statSync(text, { throwIfNoEntry: false });
  if (there && !there.isFile()) throw new ImageBuildError(`${text}: is no file, and is not replaced`);
  const output = there ? realpathSync(text) : join(folder, basename(resolve(text)));
  if (source.kind !== 'folder') return output;
  const packed = realpathSync(source.path);
  if (dirname(output) !== packed && !output.startsWith(packed === sep ? sep : `${packed}${sep}`))
    return output;
  throw new ImageBuildError(`${text}: lies in the folder that is packed`, {
    hint: 'Choose a place outside of it with --output.',
  });
}

/** Names have at most 255 bytes. */
const MAX_BASE = 180;

/** Beside the output, so that it can be renamed. The name says who builds. */
export function temporaryFor(output: string): string {
  const started = startTimeOf(process.pid) ?? 0;
  const owner = `${process.pid}-${started}-${randomBytes(4).toString('hex')}`;
  return join(dirname(output), `${prefixOf(output)}${owner}.tmp`);
}

/** What builders of the same output left that were killed. Those that still run keep theirs. */
export function removeStale(output: string): void {
  const folder = dirname(output);
  const prefix = prefixOf(output);
  for (const name of readdirSync(folder)) {
    const [, pid, startTime] = /^(\d+)-(\d+)-[0-9a-f]{8}\.tmp$/.exec(name.slice(prefix.length)) ?? [];
    if (!name.startsWith(prefix) || pid === undefined) continue;
    if (!isAlive({ pid: Number(pid), startTime: Number(startTime) }))
      rmSync(join(folder, name), { force: true });
  }
}

function prefixOf(output: string): string {
  return `.${Buffer.from(basename(output))
    .subarray(0, MAX_BASE)
    .toString('latin1')
    .replace(/[^\w.-]/g, '_')}.`;
}
