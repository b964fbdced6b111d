/** A batch's events and results as lines: for people, or as JSON. Pure but for what it has shown before. */

import { printable } from '../lib/logger.ts';
import { formatSize } from '../lib/size.ts';
import type { CommandOutput, CommandResult, RuntimeEvent } from '../node/index.ts';

export interface BatchLines {
  event(event: RuntimeEvent): string[];
  /** At the end: what no event has told. */
  results(results: readonly CommandResult[]): string[];
}

/** One JSON object a line: every event, then every result, each with its `kind`. Bytes that are no text are base64. */
export const jsonLines: BatchLines = {
  event(event) {
    const output = 'output' in event ? jsonOutput(event.output) : undefined;
    const { kind, ...rest } = event;
    return [JSON.stringify({ kind, ...rest, output })];
  },
  results(results) {
    return results.map((result) => {
      const [stdout, stderr] = [jsonOutput(result.stdout), jsonOutput(result.stderr)];
      return JSON.stringify({ kind: 'result', ...result, stdout, stderr });
    });
  },
};

function jsonOutput(output: CommandOutput | null): unknown {
  if (output === null || typeof output === 'string') return output;
  return { base64: Buffer.from(output).toString('base64') };
}

/** `[2] run: stdout | a line`. `names` are the script's commands. */
export function plainLines(names: readonly string[]): BatchLines {
  /** Streams whose output came as events, `2 stdout`; and commands that were seen to end. */
  const seen = new Set<string>();
  const head = (index: number) => `[${index}] ${names[index] ?? '?'}:`;
  return {
    event(event) {
      const { index } = event;
      switch (event.kind) {
        case 'started':
          return [`${head(index)} started`];
        case 'finished':
          seen.add(`${index} end`);
          return [`${head(index)} ${endText(event.returnCode, event.message)}`];
        case 'stdout':
        case 'stderr':
          seen.add(`${index} ${event.kind}`);
          return outputLines(`${head(index)} ${event.kind} |`, event.output);
        case 'progress':
          return [`${head(index)} ${progressText(event)}`];
      }
    },
    results(results) {
      return results.flatMap((result) => {
        const { index, stdout, stderr } = result;
        const lines: string[] = [];
        if (!seen.has(`${index} end`)) lines.push(`${head(index)} ${resultText(result)}`);
        for (const [name, output] of Object.entries({ stdout, stderr })) {
          if (output !== null && !seen.has(`${index} ${name}`)) {
            lines.push(...outputLines(`${head(index)} ${name} |`, output));
          }
        }
        return lines;
      });
    },
  };
}

function endText(code: number, message: string | null): string {
  if (code === 0) return 'finished';
  return printable(`failed, return code ${code}${message === null ? '' : `: ${message}`}`);
}

function resultText({ ok, message }: CommandResult): string {
  return ok ? 'finished' : printable(`failed${message === null ? '' : `: ${message}`}`);
}

/** Bytes that are no text are counted, not shown. */
function outputLines(head: string, output: CommandOutput): string[] {
  if (typeof output !== 'string') return [`${head} ${output.byteLength} bytes`];
  const lines = output.replace(/\n$/, '').split('\n');
  return lines.map((line) => printable(`${head} ${line}`));
}

function progressText({
  step,
  progress,
  message,
  unit,
}: Extract<RuntimeEvent, { kind: 'progress' }>): string {
  const [done, total] = progress;
  const amount = (value: number) =>
    unit === 'Bytes' ? formatSize(value) : `${value}${unit === null ? '' : ` ${unit}`}`;
  const numbers = total === null ? amount(done) : `${amount(done)} of ${amount(total)}`;
  const steps = step[1] > 1 ? `step ${step[0] + 1} of ${step[1]}, ` : '';
  return printable(`${steps}${numbers}${message === null ? '' : `, ${message}`}`);
}
