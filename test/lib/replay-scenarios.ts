/** The recorded scenarios that are played to our supervisor, those that are not yet, and where ours differs. */
import type { ReplayOptions } from './replay-router.ts';
import type { ReplaySettings } from './replay-supervisor.ts';

export interface Scenario extends ReplayOptions {
  /** Of the stand-in for the VM. */
  runtime?: Pick<ReplaySettings, 'startPrints' | 'deployFails' | 'memory' | 'programPrints' | 'taskPackage'>;
  /** Of the recording; default the scenario's own name. */
  recording?: string;
  /** The web server of the recorded transfers is there; the status with which it answers for a file that is missing. */
  missing?: 200 | 404;
  /** The last command of the first batch is not reached. */
  without?: number;
  /** Names of the counters; default the provider's four. */
  vector?: readonly string[];
  /** The agreement's limit, GiB, watched by the supervisor. */
  memoryLimit?: number;
  /** The agreement's manifest. */
  manifest?: Record<string, unknown>;
  /** Default 0; null where the recorded one was killed. */
  exitCode?: number | null;
}

const YAGNA = ['golem.usage.duration_sec', 'golem.usage.cpu_sec'];
const STARTED = { startPrints: 'started\n' };
const GIB = 1024 ** 3;

const MANIFEST = {
  version: '0.1.0',
  createdAt: '2026-11-01T00:00:00Z',
  expiresAt: '2036-11-01T00:00:00Z',
  payload: [],
};

/** An unreadable manifest: all that can fail at our start, where upstream asks for the addresses of a list of URLs. */
const FAILED_START: Scenario = { freely: true, manifest: { version: 'none' }, exitCode: 1 };

export const PLAYED: Readonly<Record<string, Scenario>> = {
  'batch-process-mode': { runtime: STARTED },
  'batch-service-mode': {},
  compressed: { runtime: STARTED },
  'custom-counter': {
    runtime: { startPrints: '{"start":null}' },
    vector: ['golem.usage.cpu_sec', 'custom', 'golem.usage.duration_sec'],
  },
  'deploy-bad-hash': {
    runtime: {
      deployFails: {
        calculated: '023e5e885e0ce23e500aaf9a15e8034192b5b0ebeb1276682dfd1798',
        expected: '0'.repeat(56),
      },
    },
  },
  'deploy-gftp-image': {
    runtime: {
      taskPackage: `hash:sha3:6962b595ea4c5655174cfce8334f7d219e8c15e0827e9e8db8f631d2:gftp://0x${'0'.repeat(38)}bb/img`,
    },
  },
  'deploy-fails': { runtime: { deployFails: 'deploy refused' } },
  errors: { end: 'SIGTERM' },
  'exe-unit2gsb': { usageReports: 1, exitCode: null },
  'exe-unit2gsb-stream': { exitCode: null },
  'exe-unit2gsb-terminate': { exitCode: null },
  'exe-unit2gsb-wait-once': { exitCode: null },
  'manifest-init-failure': FAILED_START,
  'manifest-script': {
    runtime: STARTED,
    manifest: {
      ...MANIFEST,
      compManifest: { version: '0.1.0', script: { commands: ['run /bin/echo ok'], match: 'strict' } },
    },
  },
  'output-formats': {},
  ping: {},
  'register-conflict.connection-1': {},
  'register-conflict.connection-2': { end: 'itself' },
  'report-address-unbound': { usageReports: 1, end: 'SIGTERM' },
  'runtime-errors': {},
  'sdk-runtime': {
    runtime: { startPrints: '{"exampleProperty":"running"}', programPrints: 'main main /input /output\n' },
    exitCode: null,
  },
  'sigint-idle': {},
  'sigterm-running-process': { runtime: STARTED },
  'sigterm-running-service': {},
  'state-report-refused': {},
  stream: {},
  'terminate-running': {},
  // Upstream takes the page of a 404 for the file: here a server says that it is one.
  transfer: { missing: 200 },
  'transfer, and a 404 is an error': { recording: 'transfer', missing: 404, without: 9 },
  // The VM takes what the recorded runtime took.
  'usage-limit': {
    runtime: { memory: 0.005965232849121094 * GIB },
    memoryLimit: 0.001,
    end: 'itself',
  },
  'usage-report-hangs': { usageReports: 2 },
  'usage-report-refused': { usageReports: 2, end: 'SIGTERM' },
  vpn: {},
  'vpn-errors': {},
  'vpn-redeploy': {},
  'vpn-start-errors': {},
  'yagna-central': { vector: YAGNA },
  'yagna-early-termination': { ...FAILED_START, vector: YAGNA },
  'yagna-gftp': { vector: YAGNA, missing: 404 },
  'yagna-hybrid': { vector: YAGNA },
  'yagna-sigkill': { vector: YAGNA, exitCode: null },
  'yagna-stall': { vector: YAGNA, usageReports: 1, stalls: true },
  'yagna-unknown-activity': { vector: YAGNA, usageReports: 1 },
  'yagna-vpn': { vector: YAGNA },
};

export const NOT_PLAYED: Readonly<Record<string, string>> = {
  'register-conflict.connection-3': "upstream's second connection; ours keeps the first, see connection-2",
};
