/** The agent's log: pino-shaped JSON lines on the log port. Never blocks and never fails: a full port drops, and counts. */
import type { Native } from '../../native/face.ts';
import { FrameType } from '../protocol/frames.ts';
import type { LogLevel } from '../protocol/messages.ts';

/** pino's numbers. */
const LEVELS: Record<LogLevel, number> = {
  trace: 10,
  debug: 20,
  info: 30,
  warn: 40,
  error: 50,
  silent: 1000,
};
/** Longest line, bytes of text: far below the port's frame limit, so that a hostile message cannot break the frame. */
const MAX_MESSAGE = 16 * 1024;

export class Log {
  readonly #native: Native;
  readonly #channel: number;
  #threshold = LEVELS.info;
  #dropped = 0;

  /** `channel`: the native channel of the log port. */
  constructor(native: Native, channel: number) {
    this.#native = native;
    this.#channel = channel;
  }

  setLevel(level: LogLevel): void {
    this.#threshold = LEVELS[level];
  }

  debug(message: string, fields?: object): void {
    this.write('debug', message, fields);
  }

  info(message: string, fields?: object): void {
    this.write('info', message, fields);
  }

  warn(message: string, fields?: object): void {
    this.write('warn', message, fields);
  }

  error(message: string, fields?: object): void {
    this.write('error', message, fields);
  }

  write(level: Exclude<LogLevel, 'silent'>, message: string, fields: object = {}): void {
    if (LEVELS[level] < this.#threshold) return;
    const record: Record<string, unknown> = {
      level: LEVELS[level],
      time: Date.now(),
      ...fields,
      msg: message.slice(0, MAX_MESSAGE),
    };
    if (this.#dropped > 0) record.dropped = this.#dropped;
    try {
      this.#native.channelSend(
        this.#channel,
        FrameType.log,
        0,
        new TextEncoder().encode(JSON.stringify(record)),
      );
      this.#dropped = 0;
    } catch {
      // ENOBUFS: the host does not read its log. Losing lines is better than memory or time of PID 1.
      this.#dropped++;
    }
  }
}
