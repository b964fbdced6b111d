/** `ya-vm`: the process around a command line. */
import { sleep } from '../lib/deadline.ts';
import { writeAll } from './context.ts';
import { printError } from './error-line.ts';
import { EXIT } from './exit.ts';
import { runProgram } from './program.ts';
import { restoreTerminals } from './terminal.ts';

// A reader that leaves (`ya-vm ps | head -1`) ends a stream with EPIPE. Who writes a command's bytes looks for that
// itself; for everything else there is just nobody left to tell.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});

process.on('exit', restoreTerminals);

// A bug in something that nobody waits for. The VM ends with this process: the kernel kills QEMU.
process.on('uncaughtException', async (error) => {
  restoreTerminals();
  await printError(
    error,
    process,
    process.argv.some((word) => /^(--log-level=)?(debug|trace)$/.test(word)),
  );
  process.exit(EXIT.failure);
});

// Not at the top level: the single program is a CommonJS script. For an end that nobody asked for:
process.exitCode = EXIT.failure;
void main();

async function main(): Promise<void> {
  const { stdin, stdout, stderr, env } = process;
  const code = await runProgram(process.argv.slice(2), { stdin, stdout, stderr, env });

  // What was written is handed on before the end, unless its reader stands still. An open stdin, or a socket that takes
  // its time, must not hold the exit code back.
  const written = Promise.all([writeAll(stdout, ''), writeAll(stderr, '')]);
  await Promise.race([written, sleep(1000)]);
  process.exit(code);
}
