/** Recorded traffic between upstream's supervisor and its bus: ../shared/fixtures/gsb, described by the README there. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const FOLDER = join(import.meta.dirname, '../../../shared/fixtures/gsb');

/** Why tests that need the recordings are skipped; false when they are there. */
export const noRecordings = existsSync(FOLDER) ? false : '../shared/fixtures is not here';

export interface Recorded {
  /** Seconds since the scenario's first connection. */
  t: number;
  dir: 'exe-unit→router' | 'router→exe-unit';
  /** One whole frame, its length included. */
  frame?: Uint8Array;
  /** This side closed. */
  closed?: 'eof' | 'reset';
}

/** Names of all recordings. */
export function recordingNames(): string[] {
  const files = readdirSync(FOLDER).filter((file) => file.endsWith('.jsonl'));
  return files.map((file) => file.replace(/\.jsonl$/, '')).sort();
}

/** What passed the proxy, in that order. */
export function readRecording(name: string): Recorded[] {
  const lines = readFileSync(join(FOLDER, `${name}.jsonl`), 'utf8').split('\n');
  return lines.filter((line) => line !== '').map(parseLine);
}

function parseLine(line: string): Recorded {
  const { t, dir, hex, closed } = JSON.parse(line) as Recorded & { hex?: string };
  return hex === undefined ? { t, dir, closed } : { t, dir, frame: Buffer.from(hex, 'hex') };
}
