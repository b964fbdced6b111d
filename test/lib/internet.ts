/**
 * An internet for tests: a network namespace with addresses of the whole world, and servers on them. The test itself is in
 * another one (namespaces.ts), whose only way out leads there; so nothing of the real network is ever touched.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Zone } from './dns-server.ts';
import type { Answer, Order, Seen } from './internet-server.ts';
import type { Owner } from './vm.ts';

/** Public, as far as anybody here can see. */
export const HOST = { ipv4: '93.184.1.1', ipv6: '2a01:100::2' } as const;
export const ROUTER = { ipv4: '93.184.0.1', ipv6: '2a01:100::1' } as const;
/** Servers with addresses of their own. `narrow`: the way there takes no more than 1280 bytes. */
export const SERVERS = {
  one: '151.101.1.69',
  two: '151.101.65.69',
  three: '146.75.1.1',
  narrow: '198.41.0.4',
  one6: '2a04:4e42::1',
} as const;
/** Addresses that no task may reach; here they would answer. */
export const FORBIDDEN = [
  '10.1.2.3',
  '172.16.5.5',
  '192.168.77.1',
  '169.254.169.254',
  '100.64.0.1',
  'fd00:ec2::254',
];

const NEAR = Object.values(SERVERS).filter((address) => address !== SERVERS.narrow);

const LINKS = { host: 'vhost', internet: 'vinet', narrow: 'vnarrow', edge: 'vedge' } as const;
const EDGE = { near: '93.185.0.1', far: '93.185.0.2' } as const;
const NARROW = 1280;

export interface Internet {
  /** Replaces all that the resolver knows. */
  setZone(zone: Zone): Promise<void>;
  /** What somebody out there gets from a URL. @throws {Error} */
  fetch(url: string): Promise<string>;
  /** What was seen since the last call. */
  seen(): Promise<Seen>;
}

export interface InternetOptions {
  zone?: Zone;
  /** Default true. */
  ipv6?: boolean;
  /** Of the host's /etc/resolv.conf; default the router's, which is IPv4. */
  resolvers?: string[];
}

/** Must be called inside namespaces (inNamespaces), of which it takes the network's and the mounts'. */
export async function startInternet(t: Owner, options: InternetOptions = {}): Promise<Internet> {
  const { zone = {}, ipv6 = true, resolvers = [ROUTER.ipv4] } = options;
  const server = await startProcess(t);
  const edge = await startProcess(t);
  const pids = { server: server.pid as number, edge: edge.pid as number };
  ip('link set lo up');
  for (const command of linkCommands(pids, ipv6)) ip(command);
  t.teardown(() => ip(`link del ${LINKS.host}`));
  writeFileIn(pids.server, '/proc/sys/net/ipv4/ip_forward', '1');
  const addresses = [...NEAR, ...FORBIDDEN].filter((each) => ipv6 || !each.includes(':'));
  await ask(server, { order: 'serve', commands: internetCommands(addresses, ipv6), addresses });
  await ask(edge, { order: 'serve', commands: edgeCommands(), addresses: [SERVERS.narrow] });
  await ask(server, { order: 'zone', zone });
  setResolvers(t, resolvers);
  return {
    setZone: async (next) => void (await ask(server, { order: 'zone', zone: next })),
    fetch: async (url) => (await ask(server, { order: 'fetch', url })) as string,
    seen: async () => (await ask(server, { order: 'seen' })) as Seen,
  };
}

/** A process in a network namespace of its own, which ends with the test. */
async function startProcess(t: Owner): Promise<ChildProcess> {
  const child = spawn(
    'unshare',
    ['--net', process.execPath, ...process.execArgv, join(import.meta.dirname, 'internet-server.ts')],
    { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] },
  );
  t.teardown(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, 'exit');
    child.kill('SIGKILL');
    await gone;
  });
  await answerOf(child);
  return child;
}

/** The host's side of its line; the narrow line is put between the two others. */
function linkCommands({ server, edge }: { server: number; edge: number }, ipv6: boolean): string[] {
  const { host, internet, narrow, edge: end } = LINKS;
  return [
    `link add ${host} type veth peer name ${internet} netns ${server}`,
    `link add ${narrow} netns ${server} mtu ${NARROW} type veth peer name ${end} mtu ${NARROW} netns ${edge}`,
    `addr add ${HOST.ipv4}/16 dev ${host}`,
    ...(ipv6 ? [`addr add ${HOST.ipv6}/64 dev ${host} nodad`] : []),
    `link set ${host} up`,
    `route add default via ${ROUTER.ipv4}`,
    ...(ipv6 ? [`route add default via ${ROUTER.ipv6}`] : []),
  ];
}

function internetCommands(addresses: readonly string[], ipv6: boolean): string[] {
  const { internet, narrow } = LINKS;
  return [
    'link set lo up',
    `addr add ${ROUTER.ipv4}/16 dev ${internet}`,
    ...(ipv6 ? [`addr add ${ROUTER.ipv6}/64 dev ${internet} nodad`] : []),
    `link set ${internet} up`,
    ...addresses.map((address) =>
      address.includes(':') ? `addr add ${address}/128 dev lo nodad` : `addr add ${address}/32 dev lo`,
    ),
    `addr add ${EDGE.near}/30 dev ${narrow}`,
    `link set ${narrow} up`,
    `route add ${SERVERS.narrow} via ${EDGE.far}`,
  ];
}

function edgeCommands(): string[] {
  const { edge } = LINKS;
  return [
    'link set lo up',
    `addr add ${EDGE.far}/30 dev ${edge}`,
    `addr add ${SERVERS.narrow}/32 dev lo`,
    `link set ${edge} up`,
    `route add default via ${EDGE.near}`,
  ];
}

/** A file of the kernel about the network namespace of a process. */
function writeFileIn(pid: number, path: string, text: string): void {
  execFileSync('nsenter', [`--target=${pid}`, '--net', 'sh', '-c', `echo ${text} > ${path}`]);
}

/** As the host's own file, in this mount namespace. */
function setResolvers(t: Owner, resolvers: readonly string[]): void {
  const folder = mkdtempSync('/tmp/yavm-resolv-');
  const file = join(folder, 'resolv.conf');
  writeFileSync(file, resolvers.map((address) => `nameserver ${address}\n`).join(''), { mode: 0o644 });
  execFileSync('mount', ['--bind', file, '/etc/resolv.conf']);
  t.teardown(() => {
    execFileSync('umount', ['/etc/resolv.conf']);
    rmSync(folder, { recursive: true });
  });
}

function ip(command: string): void {
  execFileSync('ip', command.split(' '), { stdio: ['ignore', 'ignore', 'inherit'] });
}

async function ask(server: ChildProcess, order: Order): Promise<unknown> {
  server.send(order);
  return await answerOf(server);
}

/** @throws {Error} as the other process says it, or when that has ended */
async function answerOf(server: ChildProcess): Promise<unknown> {
  const ended = new AbortController();
  const onExit = () => ended.abort(new Error('the internet has ended'));
  server.once('exit', onExit);
  try {
    const [answer] = (await once(server, 'message', { signal: ended.signal })) as [Answer];
    if ('failed' in answer) throw new Error(`the internet: ${answer.failed}`);
    return answer.done;
  } finally {
    server.off('exit', onExit);
  }
}
