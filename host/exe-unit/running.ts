/** GetRunningCommand: what is under way (the spec's exe-unit.md, 4.10). */
import type { Flex, FlexMap } from '../gsb/types.ts';
import type { Batch } from './batch.ts';
import type { ScriptCommand } from './types.ts';

/** One entry for each batch with a command under way. */
export function runningCommands(batches: Iterable<Batch>): Flex[] {
  return [...batches].flatMap(({ running }) => (running ? [describe(running.command)] : []));
}

function describe(command: ScriptCommand): FlexMap {
  const name = command.kind.charAt(0).toUpperCase() + command.kind.slice(1);
  return { command: name, params: paramsOf(command) };
}

function paramsOf(command: ScriptCommand): string[] | undefined {
  if (command.kind === 'start') return command.args;
  if (command.kind === 'run') return [command.entryPoint, ...command.args];
  if (command.kind === 'transfer') return [command.from, command.to];
  return undefined;
}
