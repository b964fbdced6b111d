/** `ya-vm`: the process around a command line. */
import { runProgram } from './program.ts';
import { restoreTerminals } from './terminal.ts';

// A reader that leaves (`ya-vm ps | head -1`) ends a stream with EPIPE. Who writes a command's bytes looks for that
// itself; for everything else there is just nobody left to tell.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});

process.on('exit', restoreTerminals);

const code = await runProgram(process.argv.slice(2), {
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  env: process.env,
});

// An open stdin or a socket that takes its time must not hold the exit code back.
process.exit(code);
