/** What the engine (native/engine) gives to JavaScript besides the addon. */
export interface Engine {
  version: string;
  /** argv of the program. */
  args: string[];
  /** Ends a program that is not PID 1. */
  exit(code: number): never;
  /** Redirects `console`. */
  setConsole(write: (level: 'debug' | 'info' | 'warn' | 'error', text: string) => void): void;
  /** Descriptor of the log port: the engine writes its last words there natively, whatever state JavaScript is in. */
  setFatalFd(fd: number): void;
  /** CPU time that one callback may take, this one too, before the program is ended; a minute if nothing else is said. */
  setCallbackBudget(seconds: number): void;
  /** Which bytecode this engine reads: the first line of what `bytecode --marked` makes, without its end. */
  bytecodeMark: string;
  /** Runs a script of such bytecode (what follows that line), not in PID 1; its last value. */
  runBytecode(bytes: Uint8Array): unknown;
}

declare const yavmEngine: Engine;

/** The engine this program runs in. */
export function engine(): Engine {
  return yavmEngine;
}
