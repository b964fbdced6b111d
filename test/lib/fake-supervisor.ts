/**
 * A supervisor for tests of what starts one: does what FAKE_SUPERVISOR says, and writes down how it was started.
 *
 * `node fake-supervisor.ts [words…] service-bus ACTIVITY REPORT_URL …`
 */
import { readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { connectGsb, parseGsbUrl } from '../../host/gsb/index.ts';
import { silentLogger } from '../../host/lib/logger.ts';

/** What it wrote to `started.json` in its current directory. */
export interface Started {
  argv: string[];
  cwd: string;
  pid: number;
  /** Process group and session, from /proc/self/stat. */
  group: number;
  session: number;
  /** Where its standard streams lead. */
  streams: string[];
  gsbUrl: string;
}

type Mode = 'good' | 'exits' | 'refuses' | 'deaf' | 'mute' | 'silent';

if (process.argv[1] === import.meta.filename) await main();

async function main(): Promise<void> {
  const mode = (process.env.FAKE_SUPERVISOR ?? 'good') as Mode;
  note();
  if (mode === 'exits') process.exit(1);
  if (mode === 'deaf' || mode === 'mute') process.on('SIGTERM', () => {});
  const at = process.argv.indexOf('service-bus');
  const [activityId = '', report = ''] = process.argv.slice(at + 1);
  const gsb = connectGsb({ address: parseGsbUrl(process.env.GSB_URL), logger: silentLogger });
  const state = async (current: string, more: object = {}) => {
    const body = { activityId, state: { state: [current, null], ...more }, timeout: null, credentials: null };
    await gsb.call(`${report}/SetActivityState`, body, { deadline: 60_000 });
  };
  if (mode === 'mute') return void setInterval(() => {}, 1000);
  if (mode === 'refuses') {
    await state('Terminated', { reason: 'no image', errorMessage: 'it is not there' });
    process.exit(1);
  }
  if (mode === 'good' || mode === 'silent') {
    process.on('SIGTERM', async () => {
      await state('Terminated', { reason: 'Finished: {}' });
      process.exit(0);
    });
  }
  if (mode !== 'silent') {
    const usage = { currentUsage: [0.5, 0.25], timestamp: 0 };
    await gsb.call(`${report}/SetActivityUsage`, { activityId, usage, timeout: null }, { deadline: 60_000 });
  }
  await state('Initialized');
}

function note(): void {
  const [group, session] = groupAndSession();
  const streams = [0, 1, 2].map((descriptor) => readlinkSync(`/proc/self/fd/${descriptor}`));
  const { argv, env } = process;
  const started = {
    argv,
    cwd: process.cwd(),
    pid: process.pid,
    group,
    session,
    streams,
    gsbUrl: env.GSB_URL,
  };
  writeFileSync('started.json', JSON.stringify(started));
}

/** Fields 5 and 6 of proc(5)'s stat; the command's name before them may hold anything. */
function groupAndSession(): number[] {
  const stat = readFileSync('/proc/self/stat', 'latin1');
  return stat
    .slice(stat.lastIndexOf(')') + 2)
    .split(' ')
    .slice(2, 4)
    .map(Number);
}
