/** A client's `run` request ↔ what the supervisor is asked to run. The streams' numbers stay between the two. */
import type { RunRequest } from '../../guest/protocol/messages.ts';
import type { CommandSpec } from '../runtime/types.ts';

/** The client's numbers of a command's streams; those that are not there were not asked for. */
export interface StreamNumbers {
  stdin?: number;
  stdout?: number;
  stderr?: number;
}

export function streamNumbers(request: RunRequest): StreamNumbers {
  const { stdin, stdout, stderr } = request;
  return {
    stdin,
    stdout: typeof stdout === 'object' && 'stream' in stdout ? stdout.stream : undefined,
    // A terminal has one output.
    stderr: !request.tty && typeof stderr === 'object' && 'stream' in stderr ? stderr.stream : undefined,
  };
}

export function commandSpecOf(request: RunRequest): CommandSpec {
  const { op: _op, stdin, stdout, stderr, ...same } = request;
  return {
    ...same,
    stdin: stdin !== undefined,
    stdout: outputOf(stdout),
    stderr: stderr === 'stdout' ? 'merge' : outputOf(stderr),
  };
}

function outputOf(spec: RunRequest['stdout']): 'pipe' | 'discard' | { file: string; append?: boolean } {
  return typeof spec === 'object' && 'stream' in spec ? 'pipe' : spec;
}
