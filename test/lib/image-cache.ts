/** A folder for images, what is in it, and other processes that fetch into it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createCipheriv } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { FetchOptions } from '../../host/transfer/image.ts';

interface Owner {
  teardown(fn: () => unknown): unknown;
}

/** A path for a cache that is not there yet. */
export function cacheFolder(owner: Owner): string {
  const folder = mkdtempSync(join(tmpdir(), 'yavm-cache-'));
  owner.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return join(folder, 'cache');
}

/** What is in a cache: images, part files and locks; records and folders left out. */
export function filesIn(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.name.endsWith('.json'))
    .map((entry) => entry.name)
    .sort();
}

/** Bytes that look random and cost little to make; the same for the same `seed`. */
export function contentOf(size: number, seed: number): Buffer {
  const key = Buffer.alloc(16, `${seed}`);
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(size));
}

const IMAGE_MODULE = pathToFileURL(join(import.meta.dirname, '../../host/transfer/image.ts')).href;

/** What can be said to another process. */
type PlainOptions = Pick<
  FetchOptions,
  'taskPackage' | 'cacheFolder' | 'cacheLimit' | 'ca' | 'lines' | 'timeouts' | 'patience'
>;

export interface Elsewhere {
  child: ChildProcess;
  /** `output`: the image's path, or code and message of the error and the names in `.ya-vm`. */
  ended: Promise<{ code: number | null; output: string }>;
  /** The last it wrote to its standard error. */
  errors(): string;
  /** Resolves when the other process has got so many bytes, or has ended. */
  reached(bytes: number): Promise<void>;
}

/** A process that fetches an image; `within` is what starts it. */
export function fetchElsewhere(options: PlainOptions, within: string[] = []): Elsewhere {
  const script = `
    import { readdirSync, writeSync } from 'node:fs';
    import { fetchImage } from ${JSON.stringify(IMAGE_MODULE)};
    const options = ${JSON.stringify(options)};
    const report = ({ done }) => writeSync(2, done + '\\n');
    const progress = { progress: report, progressOptions: { updateInterval: 0, updateStep: 65536 } };
    const result = await fetchImage({ ...options, ...progress }).catch((error) => error);
    const left = () => readdirSync(options.cacheFolder + '/.ya-vm');
    process.stdout.write(typeof result === 'string' ? result : result.code + ' ' + result.message + ' ' + left());
  `;
  const [program = '', ...args] = [...within, process.execPath, '--input-type=module', '-e', script];
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  let errors = '';
  let done = 0;
  let onDone = () => {};
  child.stdout.on('data', (text) => {
    output += text;
  });
  child.stderr.on('data', (text) => {
    errors = (errors + text).slice(-1000);
    const [, last] = /(\d+)\n\d*$/.exec(errors) ?? [];
    done = Math.max(done, Number(last ?? 0));
    onDone();
  });
  const ended = once(child, 'close').then(([code]) => ({
    code,
    output: output === '' && code !== null ? errors : output,
  }));
  const reached = async (bytes: number) => {
    const enough = new Promise<void>((resolve) => {
      onDone = () => done >= bytes && resolve();
      onDone();
    });
    await Promise.race([enough, ended]);
  };
  return { child, ended, errors: () => errors, reached };
}

/** A process that fetches an image, says its path and keeps its lease until it is killed. */
export function leaseElsewhere(options: PlainOptions) {
  const script = `
    import { leaseImage } from ${JSON.stringify(IMAGE_MODULE)};
    const lease = await leaseImage(${JSON.stringify(options)});
    process.stdout.write(lease.path);
    setInterval(() => lease.path, 1000);
  `;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const leased = once(child.stdout, 'data').then(([path]) => String(path));
  return { child, leased, ended: once(child, 'close') };
}
