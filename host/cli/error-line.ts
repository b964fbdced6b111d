/** How an error is told: one line with its code, a hint, and for debugging the stack. */
import { describeError, findYavmError, toError, YavmError } from '../lib/errors.ts';
import { printable } from '../lib/logger.ts';
import { type Context, styleOf, writeAll } from './context.ts';

/** Prints an error on standard error. Errors that nobody foresaw get YAVM_E_INTERNAL. */
export async function printError(
  error: unknown,
  context: Pick<Context, 'stderr' | 'env'>,
  stacks: boolean,
): Promise<void> {
  const known = findYavmError(error) ? error : unforeseen(error);
  const [first, ...rest] = printable(describeError(known)).split('\n');
  const style = styleOf(context, context.stderr);
  const lines = [`${style.red('ya-vm:')} ${first}`, ...rest.map((line) => style.dim(line))];
  if (stacks) lines.push(printable(stackOf(known)));
  await writeAll(context.stderr, lines.map((line) => `${line}\n`).join(''));
}

function unforeseen(cause: unknown): YavmError {
  return new YavmError('YAVM_E_INTERNAL', 'unexpected error', {
    cause,
    hint: 'Run it again with --log-level debug for the stack, and report it.',
  });
}

function stackOf(error: unknown): string {
  const stacks: string[] = [];
  for (let link = error, depth = 0; link !== undefined && depth < 8; depth++) {
    stacks.push(toError(link).stack ?? String(link));
    link = link instanceof Error ? link.cause : undefined;
  }
  return stacks.join('\ncaused by: ');
}
