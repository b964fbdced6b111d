/** What passed between the real exe-unit and its runtimes: the recordings beside this checkout (their README). */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

const FOLDER = resolve(import.meta.dirname, '../../../shared/fixtures/runtime-api');

/** tap's `skip`: false where they are, else the reason. */
export const withoutRecordings: string | false = existsSync(FOLDER)
  ? false
  : 'shared/fixtures/runtime-api is not beside this checkout';

export type RecordedLine =
  | { from: 'exe-unit' | 'runtime'; bytes: Buffer }
  | { from: 'exe-unit'; closed: true }
  | { exit: number };

export interface Recording {
  /** `vpn.02-start`. */
  name: string;
  argv: string[];
  /** Whether the runtime API was spoken. */
  service: boolean;
  lines: RecordedLine[];
}

/** All recordings of a subcommand, by name. */
export function recordingsOf(subcommand: 'deploy' | 'start' | 'run'): Recording[] {
  const files = readdirSync(FOLDER).filter((name) => name.endsWith(`-${subcommand}.jsonl`));
  return files.sort().map((file) => {
    const [head, ...rest] = readFileSync(join(FOLDER, file), 'utf8').trim().split('\n').map(parse);
    return {
      name: file.slice(0, -'.jsonl'.length),
      argv: head?.argv as string[],
      service: head?.stdin === 'pipe',
      lines: rest.flatMap((line) => lineOf(line)),
    };
  });
}

function parse(line: string): Record<string, unknown> {
  return JSON.parse(line);
}

function lineOf({ dir, hex, closed, exit }: Record<string, unknown>): RecordedLine[] {
  if (typeof exit === 'number') return [{ exit }];
  if (closed !== undefined) return [{ from: 'exe-unit', closed: true }];
  if (typeof hex !== 'string') return [];
  return [{ from: dir === 'exe-unit→runtime' ? 'exe-unit' : 'runtime', bytes: Buffer.from(hex, 'hex') }];
}
