/**
 * Where the time of one `ya-vm run` goes, from the log that its supervisor keeps: each line has its time, and some end a phase.
 * Pure.
 */

/** In the order in which they come. A boot has no `restore`, and its drivers are loaded in `agent`; a template has no `kernel`. */
export const PHASES = [
  'node',
  'deploy, disk',
  'QEMU',
  'restore',
  'kernel',
  'agent',
  'drivers',
  'mount',
  'configure',
  'run',
  'stop',
] as const;
export type TimelinePhase = (typeof PHASES)[number];
/** Milliseconds of each phase; together they are the whole. */
export type Timeline = Record<TimelinePhase, number>;

/** Steps of the guest's configuration that are no `configure` here. */
const STEPS: Readonly<Record<string, 'drivers' | 'mount'>> = {
  devices: 'drivers',
  root: 'mount',
  'task file systems': 'mount',
  volumes: 'mount',
  'enter root': 'mount',
};

interface Line {
  /** Milliseconds since the epoch. */
  time: number;
  msg: string;
  fields: Record<string, unknown>;
}

/**
 * @param log the supervisor's log, a JSON object in each line
 * @param began when ya-vm was started, and `ended` when it was gone: milliseconds since the epoch
 * @throws {Error} when it is not the log of a run that went well
 */
export function runTimeline(log: string, began: number, ended: number): Timeline {
  const lines = readLines(log);
  const timeline = Object.fromEntries(PHASES.map((phase) => [phase, 0])) as Timeline;
  let last = began;
  const until = (phase: TimelinePhase, { time }: { time: number }) => {
    timeline[phase] += time - last;
    last = time;
  };
  const boot = (phase: string) => find(lines, 'boot', (fields) => fields.phase === phase);

  until('node', needed(find(lines, 'initialized'), 'initialized'));
  until('deploy, disk', needed(boot('disk'), 'disk'));
  const answers = find(lines, 'QEMU answers');
  if (answers) until('QEMU', answers);
  const restored = boot('restore');
  if (restored) until('restore', restored);
  else {
    const agent = needed(boot('agent'), 'agent');
    const milliseconds = Number(agent.fields.milliseconds);
    until('kernel', { time: agent.time - milliseconds });
    until('agent', agent);
  }
  const steps = stepsOf(needed(find(lines, 'the VM is configured'), 'the VM is configured'));
  until('configure', needed(boot('file systems'), 'file systems'));
  for (const [name, milliseconds] of steps) {
    const phase = STEPS[name];
    if (phase === undefined) continue;
    timeline[phase] += milliseconds;
    timeline.configure -= milliseconds;
  }
  until(
    'run',
    needed(
      find(lines, 'command ended', ({ kind }) => kind === 'run'),
      'run',
    ),
  );
  until('stop', { time: ended });
  return timeline;
}

function readLines(log: string): Line[] {
  return log
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const fields: unknown = JSON.parse(line);
      if (typeof fields !== 'object' || fields === null) throw new Error('a line of the log is no object');
      const { time, msg } = fields as Record<string, unknown>;
      if (typeof time !== 'number' || typeof msg !== 'string') throw new Error('a line without time or text');
      return { time, msg, fields: fields as Record<string, unknown> };
    });
}

function find(
  lines: readonly Line[],
  msg: string,
  which: (fields: Line['fields']) => boolean = () => true,
): Line | undefined {
  return lines.find((line) => line.msg === msg && which(line.fields));
}

function needed(line: Line | undefined, what: string): Line {
  if (line) return line;
  throw new Error(`the supervisor's log does not say when "${what}" was over`);
}

function stepsOf({ fields: { steps } }: Line): [name: string, milliseconds: number][] {
  if (!Array.isArray(steps)) throw new Error('the log does not say how long the steps took');
  return steps.map((step: Record<string, unknown>) => [String(step.name), Number(step.milliseconds)]);
}
