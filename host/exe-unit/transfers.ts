/** What an activity's transfers reach: servers, the bus, and for local scripts files of this host. */
import type { Gsb } from '../gsb/index.ts';
import type { sleep } from '../lib/deadline.ts';
import { YavmError } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';
import { type Ends, type TransferWords, transferCommand } from '../transfer/command.ts';
import type { GuestFiles } from '../transfer/container.ts';
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
  env: Readonly<Record<string, string | undefined>>;
  progress(report: ProgressReport): void;
  signal: AbortSignal;
  logger: Logger;
  /** Between attempts; replaced by tests. */
  sleep?: typeof sleep;
}

/** Carries out a script's transfer; errors are those of {@link transferCommand}. */
export async function runTransfer(words: TransferWords, parts: TransferParts): Promise<void> {
  await transferCommand(words, { ...parts, ends: endsFor(parts), packing });
}

function endsFor({ bus, allowFiles, env, logger, sleep }: TransferParts): Record<string, Ends> {
  const http: Ends = {
    source: (url) => httpSource(url, { env, logger, sleep }),
    destination: (url) => httpDestination(url, { env, logger, sleep }),
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

async function packing(): Promise<never> {
  throw new YavmError('YAVM_E_UNSUPPORTED', 'archives are not supported yet');
}
