/** The `transfer` command of a script: from its words to the two ends, and the bytes moved (exe-unit.md 6.3). */
import type { sleep } from '../lib/deadline.ts';
import { YavmError } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';
import { containerDestination, containerSource, type GuestFiles, type Packing } from './container.ts';
import { type Location, parseLocation } from './location.ts';
import { LEAST_INTERVAL, TransferProgress } from './progress.ts';
import { transfer } from './transfer.ts';
import type { ProgressReport, TransferDestination, TransferSource } from './types.ts';

/** As a script has it. */
export interface TransferWords {
  from: string;
  to: string;
  /** An archive's. The side that is in the VM is a directory then; of two, both are. */
  format?: string;
  depth?: number;
  fileset?: unknown;
}

/** How one kind of URL is read and written. */
export interface Ends {
  source(url: URL): TransferSource | Promise<TransferSource>;
  destination(url: URL): TransferDestination | Promise<TransferDestination>;
}

export interface TransferCommandOptions {
  /** The VM, or what waits for it. */
  files: GuestFiles;
  /** By scheme, without its colon; `container` is ours. */
  ends: Readonly<Record<string, Ends>>;
  /** For directories. @throws {YavmError} for a format or a set of files that is not known */
  packing(words: TransferWords, format: string): Promise<Packing>;
  progress(report: ProgressReport): void;
  signal: AbortSignal;
  logger: Logger;
  /** Between attempts; replaced by tests. */
  sleep?: typeof sleep;
}

/**
 * Carries it out.
 * @throws {YavmError} YAVM_E_URL, YAVM_E_UNSUPPORTED, YAVM_E_CONTAINER_PATH, YAVM_E_TRANSFER_…; what the ends throw; the
 * signal's reason
 */
export async function transferCommand(words: TransferWords, options: TransferCommandOptions): Promise<void> {
  const { logger, signal } = options;
  const from = parseLocation(words.from, 'container');
  const to = parseLocation(words.to, 'container');
  const packing = await packingFor(words, [from, to], options);
  const source = await endsOf(from, options, packing).source(from.url);
  const destination = await endsOf(to, options, packing).destination(to.url);
  const facts = { from: source.shown, to: destination.shown };
  const began = performance.now();
  const bytes = await transfer(
    { from: source, to: destination, digest: from.digest },
    {
      signal,
      sleep: options.sleep,
      progress: new TransferProgress(options.progress, { updateInterval: LEAST_INTERVAL }),
      onRetry: (seconds, error) =>
        logger.warn({ ...facts, seconds, err: error }, 'the transfer is tried again'),
    },
  );
  logger.info({ ...facts, bytes, milliseconds: Math.round(performance.now() - began) }, 'transferred');
}

function endsOf({ url }: Location, { ends, files }: TransferCommandOptions, packing?: Packing): Ends {
  const scheme = url.protocol.slice(0, -1);
  if (scheme === 'container') {
    return {
      source: (url) => containerSource(files, url, packing),
      destination: (url) => containerDestination(files, url, packing),
    };
  }
  if (Object.hasOwn(ends, scheme)) return ends[scheme] as Ends;
  throw new YavmError('YAVM_E_UNSUPPORTED', `Unsupported scheme: ${scheme}`, {
    hint: `Supported are container, ${Object.keys(ends).join(', ')}.`,
  });
}

/** From a directory of the VM to another one no compression is worth its time. */
async function packingFor(
  words: TransferWords,
  locations: Location[],
  { packing }: TransferCommandOptions,
): Promise<Packing | undefined> {
  if (words.format === undefined) return undefined;
  const inVm = locations.every(({ url }) => url.protocol === 'container:');
  return await packing(words, inVm ? 'tar' : words.format);
}
