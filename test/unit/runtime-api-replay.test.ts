/**
 * The recorded exe-unit plays against our server, with a stand-in runtime that does what the recorded one did. What we
 * send is compared by meaning with what the real runtimes sent.
 */
import { PassThrough } from 'node:stream';
import t from 'tap';
import { deferred } from '../../host/lib/deferred.ts';
import { YavmError } from '../../host/lib/errors.ts';
import { silentLogger } from '../../host/lib/logger.ts';
import { FrameDecoder } from '../../host/runtime-api/frames.ts';
import {
  type ApiProcess,
  type ApiRuntime,
  ApiServer,
  type ProcessSinks,
  type ServeEnd,
} from '../../host/runtime-api/server.ts';
import { decodeRequest } from '../../host/runtime-api/wire.ts';
import { ApiClient, type ApiMessage, decodeResponse } from '../lib/api-client.ts';
import { type Recording, recordingsOf, withoutRecordings } from '../lib/runtime-recordings.ts';

/** Where we differ on purpose, and why; by scenario, or `*`. */
const EXCEPTIONS = {
  '*': {
    version: 'hello answers our own version; the supervisor ignores it',
    message:
      "texts of errors are ours; the supervisor only shows them. Their codes are the recorded runtimes'",
    introduction: 'an empty status follows the answer to run, as in the SDK: it binds the pid to its command',
    pid: 'pids are numbers of ours, never used twice; only what belongs together is compared',
    eventId: "an event's id is 0, as in the SDK; one recorded runtime repeats the request's. It is ignored",
  },
  'exe-unit2gsb-terminate': { shutdown: 'the recorded runtime does not know shutdown; ours does it' },
  'custom-counter': { counter: 'a VM has no counters of its own: no rt_status' },
  'runtime-errors': {
    death: 'a VM that dies is told: the process ends with 125 and the reason on its stderr',
  },
} as const;

/** What a session means: answers by request, processes by their order, and what belongs to the start. */
interface Meaning {
  answers: Record<number, string>;
  processes: { stdout: string; stderr: string; returnCode: number | null; afterEnd: boolean }[];
  start: string;
}

function meaningOf(messages: readonly ApiMessage[]): Meaning {
  const meaning: Meaning = { answers: {}, processes: [], start: '' };
  const byPid = new Map<number, Meaning['processes'][number]>();
  for (const message of messages) {
    const { id, event, status, run, error, network } = message;
    if (run) {
      const process = { stdout: '', stderr: '', returnCode: null, afterEnd: false };
      byPid.set(run.pid, process);
      meaning.processes.push(process);
    }
    if (!event) {
      const kind = Object.keys(message).find((key) => !['event', 'id'].includes(key)) ?? 'nothing';
      meaning.answers[id] = error
        ? `error ${error.code}`
        : network
          ? `${kind} ${JSON.stringify(network)}`
          : kind;
    }
    if (!status) continue;
    const process = byPid.get(status.pid);
    if (!process) {
      meaning.start += status.stdout;
      continue;
    }
    process.afterEnd ||= process.returnCode !== null;
    process.stdout += status.stdout;
    process.stderr += status.stderr;
    if (!status.running) process.returnCode = status.returnCode;
  }
  return meaning;
}

/** Does what the recorded runtime did, when the player says that it is time. */
class StandIn implements ApiRuntime {
  readonly #death = deferred<Error | null>();
  readonly ended = this.#death.promise;
  /** By pid of the recording. */
  readonly processes = new Map<number, { sinks: ProcessSinks; end: ReturnType<typeof deferred<number>> }>();
  stops = 0;
  /** The recorded answers to the requests that will come, in their order. */
  readonly answers: ApiMessage[];

  constructor(answers: ApiMessage[]) {
    this.answers = answers;
  }

  async run(_request: unknown, sinks: ProcessSinks): Promise<ApiProcess> {
    const answer = this.#next();
    if (!answer.run) throw new YavmError('YAVM_E_RUNTIME_PROCESS', answer.error?.message ?? 'no answer');
    const end = deferred<number>();
    end.promise.catch(() => {});
    this.processes.set(answer.run.pid, { sinks, end });
    return {
      pid: answer.run.pid,
      ended: end.promise.then((returnCode) => ({ returnCode })),
      signal: async () => {},
    };
  }

  async network(): ReturnType<ApiRuntime['network']> {
    const { network } = this.#next();
    return { kind: 'udp-datagram', address: network?.udpDatagram ?? '' };
  }

  async stop(): Promise<void> {
    this.stops++;
    this.#death.resolve(null);
  }

  /** As when QEMU dies: commands fail, then it is known. */
  die(error: Error): void {
    for (const { end } of this.processes.values()) end.reject(error);
    this.#death.resolve(error);
  }

  #next(): ApiMessage {
    const answer = this.answers.shift();
    if (!answer) throw new Error('a request that was not recorded');
    return answer;
  }
}

interface Played {
  ours: ApiMessage[];
  recorded: ApiMessage[];
  end: ServeEnd | null;
  runtime: StandIn;
}

async function play({ lines }: Recording): Promise<Played> {
  const recorded = lines.flatMap((line) =>
    'bytes' in line && line.from === 'runtime' ? [...frames(line.bytes)].map(decodeResponse) : [],
  );
  const answers = recorded.filter(({ event, run, error, network }) => !event && (run || error || network));
  const runtime = new StandIn(answers);
  const [input, output] = [new PassThrough(), new PassThrough()];
  const api = new ApiClient(input, output);
  const server = new ApiServer({ input, output, version: '9.8.7', logger: silentLogger });
  const serving = server.serve(runtime);
  let [asked, ended, over] = [0, 0, false];
  for (const line of lines) {
    if ('bytes' in line && line.from === 'exe-unit') {
      input.write(line.bytes);
      for (const bytes of frames(line.bytes)) {
        asked = Number(decodeRequest(bytes).id);
        await api.message(({ event, id }) => !event && id === asked, `answer to ${asked}`);
      }
    } else if ('bytes' in line) {
      for (const bytes of frames(line.bytes)) {
        const message = decodeResponse(bytes);
        await happen(server, runtime, message);
        // The recorded supervisor went on when it had the end.
        if (message.status && !message.status.running) ended++;
        await api.message(() => endsIn(api.messages) >= ended, 'the end of a process');
      }
    } else if ('closed' in line) {
      input.end();
      over = true;
    } else if (!over && line.exit !== 0) {
      runtime.die(new YavmError('YAVM_E_QEMU_DIED', 'QEMU died'));
      over = true;
    }
  }
  over ||= runtime.stops > 0;
  const end = over ? await serving : null;
  if (!over) {
    input.end();
    await serving;
  }
  return { ours: api.messages, recorded, end, runtime };
}

/** What the recorded event tells of has happened in the stand-in. */
async function happen(server: ApiServer, runtime: StandIn, { status }: ApiMessage): Promise<void> {
  if (!status) return;
  const process = runtime.processes.get(status.pid);
  if (!process) return await server.announce(status.stdout);
  const { sinks, end } = process;
  if (status.stdout) await sinks.stdout(Buffer.from(status.stdout, 'latin1'));
  if (status.stderr) await sinks.stderr(Buffer.from(status.stderr, 'latin1'));
  if (status.running) return;
  end.resolve(status.returnCode);
}

function endsIn(messages: readonly ApiMessage[]): number {
  return messages.filter(({ status }) => status && !status.running).length;
}

function* frames(bytes: Uint8Array): Generator<Uint8Array> {
  for (const frame of new FrameDecoder().push(bytes)) if ('bytes' in frame) yield frame.bytes;
}

t.test('recorded sessions', { skip: withoutRecordings }, async (t) => {
  const recordings = recordingsOf('start').filter(({ service }) => service);
  t.ok(recordings.length >= 15, `${recordings.length} recordings`);
  for (const recording of recordings) {
    const { ours, recorded, end, runtime } = await play(recording);
    const [sent, real] = [meaningOf(ours), meaningOf(recorded)];
    const scenario = recording.name.split('.')[0] as string;
    if (scenario in EXCEPTIONS) adjust(real, sent, scenario);
    t.strictSame(sent, real, recording.name);
    t.ok(
      sent.processes.every(({ afterEnd }) => !afterEnd),
      `${recording.name}: nothing behind an end`,
    );
    t.ok(end === null || runtime.stops > 0, `${recording.name}: the runtime was stopped at the end`);
    t.ok(introduced(ours), `${recording.name}: a process is introduced before it is heard of`);
  }
});

/** Applies a scenario's exceptions to what the real one sent. An event that ours does not have has no meaning here. */
function adjust(real: Meaning, sent: Meaning, scenario: string): void {
  for (const [id, answer] of Object.entries(sent.answers)) {
    if (scenario === 'exe-unit2gsb-terminate' && answer === 'shutdown') real.answers[Number(id)] = answer;
  }
  for (const [index, process] of sent.processes.entries()) {
    const theirs = real.processes[index];
    if (scenario === 'runtime-errors' && process.returnCode === 125 && theirs?.returnCode === null) {
      real.processes[index] = { ...theirs, returnCode: 125, stderr: process.stderr };
    }
  }
}

function introduced(messages: readonly ApiMessage[]): boolean {
  const answered = new Set<number>();
  const known = new Set<number>();
  for (const { run, status } of messages) {
    if (run) answered.add(run.pid);
    if (!status || status.pid === 0) continue;
    if (!answered.has(status.pid)) return false;
    if (!known.has(status.pid) && (status.stdout || status.stderr || !status.running)) return false;
    known.add(status.pid);
  }
  return true;
}
