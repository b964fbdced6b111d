/**
 * The recorded exe-unit plays its networks against our `start`, with a stand-in for the VM: what the guest is told, and
 * every byte that goes back. Our version and port are the recorded ones, so answers can be compared as they are.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { Command as Parser } from 'commander';
import t from 'tap';
import type { NetworkSpec } from '../../guest/protocol/messages.ts';
import { COMMANDS } from '../../host/cli/commands.ts';
import { addSupervisorOptions } from '../../host/cli/exe-unit-options.ts';
import { nameFirst } from '../../host/cli/leading.ts';
import { addRuntimeOptions, readRuntimeOptions } from '../../host/cli/runtime-options.ts';
import { deferred } from '../../host/lib/deferred.ts';
import { silentLogger } from '../../host/lib/logger.ts';
import type { NicBackend } from '../../host/network/types.ts';
import type { Command } from '../../host/runtime/command.ts';
import { GuestRequestError } from '../../host/runtime/guest-errors.ts';
import type { VmSpec } from '../../host/runtime/types.ts';
import { DEPLOYMENT_FORM, writeDeployment } from '../../host/runtime-api/deployment.ts';
import type { Endpoints, EndpointUrl } from '../../host/runtime-api/endpoint.ts';
import { start } from '../../host/runtime-api/start.ts';
import type { ApiVm } from '../../host/runtime-api/vm-api.ts';
import type { HostNative } from '../../native/host-face.ts';
import { ApiClient, decodeResponse } from '../lib/api-client.ts';
import { type Recording, recordingsOf, withoutRecordings } from '../lib/runtime-recordings.ts';

const work = mkdtempSync(join(tmpdir(), 'yavm-network-'));
t.teardown(() => rmSync(work, { recursive: true, force: true }));
writeDeployment(work, {
  form: DEPLOYMENT_FORM,
  layers: ['/images/task.gvmi'],
  cpus: 1,
  memoryMiB: 256,
  root: { ram: 1 << 20 },
  hostname: 'golem',
  mounts: [],
  disks: [],
  volumes: [],
  config: { env: [], entrypoint: [], cmd: [] },
});

interface Played {
  api: ApiClient;
  /** What came back, frame by frame. */
  sent: Buffer[];
  /** What the VM was made of, and plugged into. */
  spec: VmSpec;
  nics: NicBackend[];
  /** What the guest was told, in order. */
  told: NetworkSpec[];
  /** Ports of the supervisor that were connected to. */
  connected: number[];
}

interface Session extends Played {
  input: PassThrough;
  ended: Promise<unknown>;
}

/** Starts a VM that is none. `refuse`: makes its guest say no. */
async function begin(
  endpoints: Endpoints<EndpointUrl>,
  ports: number[],
  refuse: (spec: NetworkSpec) => void = () => {},
): Promise<Session> {
  const [input, output] = [new PassThrough(), new PassThrough()];
  const sent: Buffer[] = [];
  output.on('data', (chunk: Buffer) => sent.push(chunk));
  const api = new ApiClient(input, output);
  const [told, connected]: [NetworkSpec[], number[]] = [[], []];
  const native = {
    udpConnect(_: string, port: number) {
      connected.push(port);
      return [1000 + connected.length, ports.shift() ?? 1];
    },
    dropShort() {},
    close() {},
  } as unknown as HostNative;
  const over = deferred<{ reason: 'stopped'; error: null; orderly: boolean; cpuSeconds: number }>();
  const end = async () => over.resolve({ reason: 'stopped', error: null, orderly: true, cpuSeconds: 0 });
  const vm: ApiVm = {
    ended: over.promise,
    async run() {
      const result = Promise.resolve({ exitCode: 0, complete: true });
      return { pid: 7, result, signal: async () => {} } as unknown as Command;
    },
    async network(spec) {
      refuse(spec);
      told.push(spec);
    },
    stop: end,
    kill: end,
  };
  const booted = deferred<{ spec: VmSpec; nics: NicBackend[] }>();
  const ended = start({
    workFolder: work,
    args: [],
    assets: { kernel: '', initramfs: '', manifest: '' },
    accel: 'auto',
    endpoints,
    native,
    input,
    output,
    version: '0.1.0',
    logger: silentLogger,
    signal: new AbortController().signal,
    async boot(spec, nics) {
      booted.resolve({ spec, nics });
      return vm;
    },
  });
  return { api, sent, told, connected, input, ended, ...(await booted.promise) };
}

function endpointsOf(argv: readonly string[]): Endpoints<EndpointUrl> {
  const [, ...words] = nameFirst(argv, COMMANDS);
  const command = new Parser().exitOverride().argument('[word...]').passThroughOptions();
  addRuntimeOptions(command);
  addSupervisorOptions(command);
  command.parse(words, { from: 'user' });
  return readRuntimeOptions(command.opts(), {}).endpoints;
}

function recording(name: string): Recording {
  const found = recordingsOf('start').find((each) => each.name === name);
  if (!found) throw new Error(`no recording ${name}`);
  return found;
}

/** Ports that the recorded runtime answered, in the order of its requests. */
function answeredPorts({ lines }: Recording): number[] {
  return lines.flatMap((line) => {
    if (!('bytes' in line) || line.from !== 'runtime') return [];
    const { network } = decodeResponse(line.bytes.subarray(1));
    return network?.udpDatagram ? [Number(network.udpDatagram.split(':')[1])] : [];
  });
}

/** What the exe-unit says, one after the other; what was answered to each. */
async function play(recorded: Recording, ports: number[]): Promise<{ session: Session; answers: Buffer[] }> {
  const session = await begin(endpointsOf(recorded.argv), ports);
  const answers: Buffer[] = [];
  for (const line of recorded.lines) {
    if ('closed' in line) session.input.end();
    if (!('bytes' in line) || line.from !== 'exe-unit') continue;
    const before = session.sent.length;
    session.input.write(line.bytes);
    while (session.sent.length === before) await new Promise(setImmediate);
    answers.push(session.sent[before] as Buffer);
  }
  session.input.end();
  await session.ended;
  return { session, answers };
}

/** The recorded answers to the exe-unit's messages: the first frame behind each. */
function recordedAnswers({ lines }: Recording): Buffer[] {
  return lines.flatMap((line, index) => {
    const next = lines[index + 1];
    if (!('bytes' in line) || line.from !== 'exe-unit') return [];
    return next && 'bytes' in next ? [next.bytes] : [];
  });
}

t.test('the recorded networks: every answer byte by byte', { skip: withoutRecordings }, async (t) => {
  const cases: { name: string; links: string[]; addresses: string[]; hosts?: object }[] = [
    {
      name: 'vpn.02-start',
      links: ['eth0'],
      addresses: ['192.168.8.7/24'],
      hosts: { db: '192.168.8.1' },
    },
    { name: 'inet.02-start', links: ['eth0', 'eth1'], addresses: ['10.42.42.2/24'] },
    { name: 'vpn-start-errors.02-start', links: ['eth0'], addresses: [] },
    { name: 'vpn-start-errors.04-start', links: ['eth0'], addresses: ['192.168.8.7/24'] },
    {
      name: 'vpn-start-errors.06-start',
      links: ['eth0'],
      addresses: ['192.168.8.7/25', '192.168.8.7/24'],
    },
    {
      name: 'vpn-start-errors.08-start',
      links: ['eth0'],
      addresses: ['192.168.8.7/24', '192.168.8.7/25'],
    },
  ];
  for (const { name, links, addresses, hosts = {} } of cases) {
    const recorded = recording(name);
    // VPN's is opened first; only one network has a request in each of these.
    const ports = name.startsWith('inet') ? [1, ...answeredPorts(recorded)] : answeredPorts(recorded);
    const { session, answers } = await play(recorded, ports);
    const real = recordedAnswers(recorded);
    const [ours, theirs] = [answers, real].map((list) =>
      // The answer to run has a pid of ours.
      list.map((bytes) => (decodeResponse(bytes.subarray(1)).run ? 'run' : bytes.toString('hex'))),
    );
    t.strictSame(ours, theirs, name);
    t.strictSame(
      session.spec.network?.links?.map((link) => link.name),
      links,
      `${name}: NICs`,
    );
    t.equal(session.nics.length, links.length);
    const urls = recorded.argv.flatMap((word) => /^udp:.*:(\d+)$/.exec(word)?.[1] ?? []);
    t.strictSame(session.connected, urls.map(Number), `${name}: connected to the supervisor`);
    const last = session.told.at(-1);
    t.strictSame(last?.links?.[0]?.addresses ?? [], addresses, `${name}: addresses`);
    t.strictSame(last?.hosts ?? {}, hosts, `${name}: names`);
  }
});

const UDP: EndpointUrl = { kind: 'udp', address: '127.0.0.1', port: 9 };
const NETWORK = {
  address: '192.168.8.0',
  gateway: '',
  mask: '255.255.255.0',
  interfaceAddress: '192.168.8.7',
};

t.test('what a request gets that cannot be served, and that the next one can be', async (t) => {
  const session = await begin({ vpn: UDP }, [4242], ({ hosts }) => {
    if (hosts?.['bad name']) {
      throw new GuestRequestError('network', { code: 'bad-request', message: "'bad name' is no host name" });
    }
    if (hosts?.fails) throw new GuestRequestError('network', { code: 'network-failed', message: 'no link' });
  });
  const { api, told } = session;
  const call = (network: object) => api.call({ network });
  const mask = { ...NETWORK, mask: 'x' };
  t.match((await call({ interface: 1, networks: [NETWORK] })).error, { code: 2, message: /--inet-endpoint/ });
  t.match((await call({ interface: 2, networks: [NETWORK] })).error, { code: 2 });
  t.match((await call({ networks: [mask] })).error, { code: 2, message: /mask: 'x'/ });
  t.match((await call({ networks: [{}] })).error, { code: 2, message: /addr: ''/ });
  const bad = [{ key: 'bad name', value: '10.0.0.1' }];
  t.match((await call({ networks: [NETWORK], hosts: bad })).error, { code: 2, message: /bad name/ });
  const fails = [{ key: 'fails', value: '10.0.0.1' }];
  t.match((await call({ networks: [NETWORK], hosts: fails })).error, { code: 0, message: /no link/ });
  t.strictSame(told, [], 'the guest took none of them');

  const good = { networks: [NETWORK], hosts: [{ key: 'db', value: '192.168.8.9' }] };
  for (const _ of [1, 2]) t.match(await call(good), { network: { udpDatagram: '127.0.0.1:4242' } });
  t.strictSame(told[0]?.hosts, { db: '192.168.8.9' }, 'nothing is left of what was refused');
  t.strictSame(told[1], told[0]);
  session.input.end();
  await session.ended;
});

t.test('without endpoints there are no NICs', async (t) => {
  const session = await begin({}, []);
  t.strictSame([session.nics, session.spec.network?.links], [[], []]);
  t.match((await session.api.call({ network: { networks: [NETWORK] } })).error, { code: 2 });
  session.input.end();
  await session.ended;
});
