/**
 * Output on the host's side alone: from a stand-in for the VM, which produces as fast as it is taken, through spool and
 * bus to a requestor. The supervisor is a process of its own; bus and requestor share this one.
 */
import type { Requestor } from '../../host/node/index.ts';
import type { Bench } from './context.ts';
import { outputSize, streamSpeed } from './exe-unit-events.ts';
import {
  BRING_UP,
  buildStandIn,
  type Provider,
  peakMemory,
  perform,
  runCommand,
  startProvider,
} from './exe-unit-provider.ts';
import type { Figure } from './figure.ts';
import { withOwner } from './owner.ts';

const MB = 1e6;
/** A result carries 32 MiB a stream: 50 MB are those of two commands. */
const CAPTURED = 50 * MB;
const STREAMED = 1000 * MB;
/** A result has room for 62 MiB as encoded, and upstream's vectors take four bytes for one: no more than this fits. */
const CAPTURED_BINARY = 15 * MB;
const STREAMED_BINARY = 200 * MB;
const ASKERS = 16;
/** Seconds. */
const PATIENCE = 300;
/** Of a supervisor with its cap of 32 MiB a stream, bytes. */
const MEMORY = 300 * MB;

type Format = 'str' | 'bin' | 'blob';

interface Measured {
  /** MB/s. */
  speed: number;
  /** Largest memory of the supervisor, bytes. */
  peak: number;
}

export const exeUnitSpool: Bench = {
  name: 'spool',
  what: `${CAPTURED / MB} MB by results and ${STREAMED / MB} MB by the stream, from a stand-in for the VM`,
  run: ({ accel }) =>
    withOwner(async (owner) => {
      const provider = await startProvider(owner, await buildStandIn(owner), accel);
      const results = (format: Format, bytes: number) => measure(provider, bytes, format, byResults);
      const stream = (format: Format, bytes: number) => measure(provider, bytes, format, byStream);
      return [
        ...figures('50 MB by results, text', await results('str', CAPTURED), true),
        ...figures('50 MB by results, blob', await results('blob', CAPTURED), true),
        ...figures('15 MB by results, binary', await results('bin', CAPTURED_BINARY), false),
        ...figures(
          `50 MB by results, text, ${ASKERS} at once`,
          await measure(provider, CAPTURED, 'str', byMany),
          true,
        ),
        ...figures('1 GB by the stream, text', await stream('str', STREAMED), true),
        ...figures('1 GB by the stream, blob', await stream('blob', STREAMED), true),
        ...figures('200 MB by the stream, binary', await stream('bin', STREAMED_BINARY), false),
      ];
    }),
};

function figures(what: string, { speed, peak }: Measured, judged: boolean): Figure[] {
  return [
    { what, value: speed, unit: 'MB/s', limit: judged ? { atLeast: 40 } : undefined },
    { what: `${what}: peak RSS`, value: peak / MB, unit: 'MB', limit: { atMost: MEMORY / MB } },
  ];
}

/** In a supervisor of its own, so that its memory tells of this alone. */
async function measure(
  provider: Provider,
  bytes: number,
  format: Format,
  take: (requestor: Requestor, bytes: number, format: Format) => Promise<number>,
): Promise<Measured> {
  const { activity, requestor, pid } = await provider.begin();
  await perform(requestor, BRING_UP);
  const speed = await take(requestor, bytes, format);
  const peak = peakMemory(pid);
  await activity.stop();
  return { speed, peak };
}

/** From Exec to the one answer with the outputs of two commands. */
async function byResults(requestor: Requestor, bytes: number, format: Format): Promise<number> {
  const command = runCommand('bytes', [String(bytes / 2)], { atEnd: { format } });
  const began = performance.now();
  const batch = await requestor.exec([command, command]);
  const results = await requestor.results(batch, { timeout: PATIENCE });
  const took = performance.now() - began;
  const received = results.reduce((sum, { stdout }) => sum + outputSize(stdout), 0);
  if (received !== bytes) throw new Error(`${received} bytes came, not ${bytes}`);
  return bytes / MB / (took / 1000);
}

/** The same answer for many who ask at once. */
async function byMany(requestor: Requestor, bytes: number, format: Format): Promise<number> {
  const command = runCommand('bytes', [String(bytes / 2)], { atEnd: { format } });
  const batch = await requestor.exec([command, command]);
  await requestor.results(batch, { timeout: PATIENCE, commandIndex: 1 });
  const began = performance.now();
  const asked = Array.from({ length: ASKERS }, async () => {
    const results = await requestor.results(batch, { timeout: PATIENCE });
    return results.reduce((sum, { stdout }) => sum + outputSize(stdout), 0);
  });
  const received = (await Promise.all(asked)).reduce((sum, size) => sum + size, 0);
  const took = performance.now() - began;
  if (received !== ASKERS * bytes) throw new Error(`${received} bytes came, not ${ASKERS * bytes}`);
  return received / MB / (took / 1000);
}

function byStream(requestor: Requestor, bytes: number, format: Format): Promise<number> {
  return streamSpeed(requestor, runCommand('bytes', [String(bytes)], { stream: { format } }), bytes);
}
