/** `ya-vm`: the process around a command line. */
import { sleep } from '../lib/deadline.ts';
import { writeAll } from './context.ts';
import { printError } from './error-line.ts';
import { EXIT } from './exit.ts';
import { runProgram } from './program.ts';
import { standardStreams } from './standard-streams.ts';
import { restoreTerminals } from './terminal.ts';

const streams = standardStreams();

process.on('exit', restoreTerminals);

// A bug in something that nobody waits for. The VM ends with this process: the kernel kills QEMU.
process.on('uncaughtException', async (error) => {
  restoreTerminals();
  await printError(
    error,
    streams,
    process.argv.some((word) => /^(--log-level=)?(debug|trace)$/.test(word)),
  );
  process.exit(EXIT.failure);
});

// Not at the top level: the single program is a CommonJS script. For an end that nobody asked for:
process.exitCode = EXIT.failure;
void main();

async function main(): Promise<void> {
  const { stdout, stderr } = streams;
  const code = await runProgram(process.argv.slice(2), streams);

  // What was written is handed on before the end, unless its reader stands still. An open stdin, or a socket that takes
  // its time, must not hold the exit code back.
  const written = Promise.all([writeAll(stdout, ''), writeAll(stderr, '')]);
  await Promise.race([written, sleep(1000)]);
  process.exit(code);
}
