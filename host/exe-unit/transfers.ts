/** What an activity's transfers reach: servers, the bus, and for local scripts files of this host. */
import type { Gsb } from '../gsb/index.ts';
import type { sleep } from '../lib/deadline.ts';
import { YavmError } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';
import { type Ends, type TransferWords, transferCommand } from '../transfer/command.ts';
import type { GuestFiles, Packing } from '../transfer/container.ts';
import { fileDestination, fileSource } from '../transfer/file.ts';
import { gftpDestination } from '../transfer/gftp-destination.ts';
import { gftpSource } from '../transfer/gftp-source.ts';
import { httpSource } from '../transfer/http-source.ts';
import { httpDestination } from '../transfer/http-upload.ts';
import type { ProgressReport } from '../transfer/types.ts';

export interface TransferParts {
  /** The VM, or what waits for it. */
  files: GuestFiles;
  /** For gftp; null: there is none. */
  bus: Pick<Gsb, 'call'> | null;
  /** `file:` URLs are this host's files; else there is no such thing. */
  allowFiles: boolean;
  /** Where archives that must be read twice wait, without names. */
  tempFolder: string;
  env: Readonly<Record<string, string | undefined>>;
  progress(report: ProgressReport): void;
  signal: AbortSignal;
  logger: Logger;
  /** Between attempts; replaced by tests. */
  sleep?: typeof sleep;
}

/** Carries out a script's transfer; errors are those of {@link transferCommand}. */
export async function runTransfer(words: TransferWords, parts: TransferParts): Promise<void> {
  const packing = (own: TransferWords, format: string) => packingOf(own, format, parts.tempFolder);
  await transferCommand(words, { ...parts, ends: endsFor(parts), packing });
}

function endsFor({ bus, allowFiles, env, logger, sleep }: TransferParts): Record<string, Ends> {
  // Who may read this host's files may also reach whatever it reaches.
  const options = { env, logger, sleep, ...(allowFiles ? { policy: null } : {}) };
  const http: Ends = {
    source: (url) => httpSource(url, options),
    destination: (url) => httpDestination(url, options),
  };
  const ends: Record<string, Ends> = {
    http,
    https: http,
    gftp: {
      source: (url) => gftpSource(url, needBus(bus)),
      destination: (url) => gftpDestination(url, needBus(bus)),
    },
  };
  if (allowFiles) ends.file = { source: fileSource, destination: fileDestination };
  return ends;
}

function needBus(bus: TransferParts['bus']): Pick<Gsb, 'call'> {
  if (bus !== null) return bus;
  throw new YavmError('YAVM_E_UNSUPPORTED', 'gftp needs a node: this script runs without one');
}

/** Archives are checked before anything is transferred: an unknown format costs nobody a download. */
async function packingOf(words: TransferWords, name: string, tempFolder: string): Promise<Packing> {
  const { packArchive, parseArchiveFormat, parseFileset, unpackArchive } = await import(
    '../transfer/archive/index.ts'
  );
  const { depth } = words;
  const [format, fileset] = [parseArchiveFormat(name), parseFileset(words.fileset)];
  const options = (signal: AbortSignal) => ({ format, depth, fileset, signal, tempFolder });
  return {
    pack: (tar, signal) => packArchive(tar, options(signal)),
    unpack: (archive, signal) => unpackArchive(archive, options(signal)),
  };
}
