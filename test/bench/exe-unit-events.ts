/** Takes a command's output from the stream of its batch, and measures it. */
import type { Flex } from '../../host/gsb/types.ts';
import type { CommandOutput, Requestor } from '../../host/node/index.ts';

/** Runs one command. @returns MB/s from its first byte to the end of the stream @throws when not all of it came */
export async function streamSpeed(requestor: Requestor, command: Flex, bytes: number): Promise<number> {
  const batch = await requestor.exec([command]);
  let received = 0;
  let first = 0;
  for await (const event of requestor.stream(batch)) {
    if (event.kind === 'finished' && event.returnCode !== 0) throw new Error(event.message ?? 'it failed');
    if (event.kind !== 'stdout') continue;
    if (received === 0) first = performance.now();
    received += outputSize(event.output);
  }
  const took = performance.now() - first;
  if (received !== bytes) throw new Error(`${received} bytes came, not ${bytes}`);
  return bytes / 1e6 / (took / 1000);
}

/** Bytes of an output. */
export function outputSize(output: CommandOutput | null): number {
  if (output === null) return 0;
  return typeof output === 'string' ? Buffer.byteLength(output) : output.length;
}
