/** A GuestClient connected to a FakeGuest, for one test. */

import type { YavmError } from '../../host/lib/errors.ts';
import { type Logger, silentLogger } from '../../host/lib/logger.ts';
import { GuestClient, type GuestClientOptions } from '../../host/runtime/guest-client.ts';
import type { CommandSpec } from '../../host/runtime/types.ts';
import { FakeGuest } from './fake-guest.ts';

export interface Session {
  client: GuestClient;
  guest: FakeGuest;
  /** Calls of `onEnd`, in order. */
  ends: (YavmError | null)[];
  /** Resolves at the first call of `onEnd`. */
  ended: Promise<YavmError | null>;
}

/** Connects both; closed at the end of the test `t`. */
export async function startSession(
  t: { teardown(fn: () => void): void },
  options: Partial<GuestClientOptions> = {},
  logger: Logger = silentLogger,
): Promise<Session> {
  const { ports, guest: connecting } = await FakeGuest.prepare();
  const ends: (YavmError | null)[] = [];
  let onFirst!: (error: YavmError | null) => void;
  const ended = new Promise<YavmError | null>((resolve) => {
    onFirst = resolve;
  });
  const client = new GuestClient(ports, {
    logger,
    ...options,
    onEnd: (error) => {
      ends.push(error);
      onFirst(error);
    },
  });
  const guest = await connecting;
  t.teardown(() => {
    client.close(new Error('the test is over'));
    guest.close();
  });
  return { client, guest, ends, ended };
}

/** The least that a command needs. */
export function commandSpec(change: Partial<CommandSpec> = {}): CommandSpec {
  return { argv: ['/bin/true'], env: [], ...change };
}

/** A logger that keeps its records. */
export function recordingLogger(): {
  logger: Logger;
  records: { level: string; fields: object; text: string }[];
} {
  const records: { level: string; fields: object; text: string }[] = [];
  const method = (level: string) => (first: string | object, second?: string) => {
    records.push(
      typeof first === 'string'
        ? { level, fields: {}, text: first }
        : { level, fields: first, text: second ?? '' },
    );
  };
  const logger: Logger = {
    ...silentLogger,
    trace: method('trace'),
    debug: method('debug'),
    info: method('info'),
    warn: method('warn'),
    error: method('error'),
    fatal: method('fatal'),
  };
  return { logger, records };
}
