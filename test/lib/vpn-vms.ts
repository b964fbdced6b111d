/** VMs of different nodes in one VPN, for VM tests: a router each, joined in this process; ya-vm as their exe-units. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { localImage } from '../../host/cli/local-activity.ts';
import type { Flex } from '../../host/gsb/types.ts';
import { silentLogger } from '../../host/lib/logger.ts';
import { ActivityHost, type RunningActivity } from '../../host/node/activity-host.ts';
import { LocalNetwork } from '../../host/node/network.ts';
import { LocalNode } from '../../host/node/node.ts';
import type { Requestor } from '../../host/node/requestor.ts';
import { sh, VECTOR } from './exe-unit-activity.ts';
import { GUEST_NET, guestNet } from './guest-net.ts';
import { DEMO_IMAGE, type Owner, privateEnvironment } from './vm.ts';
import { LAUNCHER } from './ya-vm.ts';

/** The network's id, and its addresses: a VM's number is the last part. */
export const NETWORK = 'lab';
export const RANGE = '10.77.0.0/24';
export const addressOf = (number: number) => `10.77.0.${number}`;
/** A second one, for IPv6. */
export const NETWORK6 = 'lab6';
export const RANGE6 = 'fd77::/64';
export const address6Of = (number: number) => `fd77::${number}`;
export const nodeIdOf = (number: number) => `0x${number.toString(16).padStart(40, 'a')}`;

const REQUESTOR = `0x${'1'.repeat(40)}`;

export interface ShellEnd {
  ok: boolean;
  stdout: string;
  stderr: string;
  message: string | null;
}

export interface VpnVm {
  /** From 1 on. */
  number: number;
  address: string;
  node: LocalNode;
  activity: RunningActivity;
  requestor: Requestor;
  /** Runs a shell line to its end. */
  shell(line: string): Promise<ShellEnd>;
  /** Starts one, and does not wait for it. */
  begin(line: string): Promise<string>;
}

export interface VpnOptions {
  /** Numbers of the VMs that each is told of at its deploy; default all. */
  known?: readonly number[];
  /** With the IPv6 network, too. */
  ipv6?: boolean;
  /** All on one node: siblings, where there is one activity a VM. */
  oneNode?: boolean;
  env?: Record<string, string>;
  memoryGib?: number;
}

export class VpnLab {
  readonly network = new LocalNetwork();
  readonly environment: Record<string, string | undefined>;
  readonly folder: string;
  readonly vms: VpnVm[] = [];
  readonly #options: VpnOptions;
  readonly #nodes = new Map<number, LocalNode>();

  constructor(t: Owner, options: VpnOptions = {}) {
    this.#options = options;
    this.environment = privateEnvironment(t);
    this.folder = this.environment.XDG_RUNTIME_DIR as string;
    writeFileSync(join(this.folder, 'guest-net'), guestNet());
    t.teardown(() => this.close());
  }

  /** The node of a VM; made when it is asked for. */
  async node(number: number): Promise<LocalNode> {
    const key = this.#options.oneNode ? 0 : number;
    const there = this.#nodes.get(key);
    if (there) return there;
    const node = await LocalNode.start({
      address: { kind: 'unix', path: join(this.folder, `gsb-${key}.sock`) },
      identity: { nodeId: nodeIdOf(key) },
      network: this.network,
      logger: silentLogger,
    });
    this.#nodes.set(key, node);
    return node;
  }

  /** Boots VMs `numbers`, one after the other. */
  async start(...numbers: number[]): Promise<VpnVm[]> {
    const started: VpnVm[] = [];
    for (const number of numbers) {
      const { node, activity, requestor } = await this.#activity(number);
      const vm: VpnVm = {
        ...{ number, address: addressOf(number), node, activity, requestor },
        shell: (line) => shell(requestor, line),
        begin: (line) => requestor.exec([sh(line, false)]),
      };
      this.vms.push(vm);
      const program = pathToFileURL(join(this.folder, 'guest-net')).href;
      const batch = await requestor.exec([
        this.deploy(number),
        { start: {} },
        { transfer: { from: program, to: `container:${GUEST_NET}` } },
        sh(`chmod 755 ${GUEST_NET}`),
      ]);
      const failed = (await requestor.finished(batch)).find(({ ok }) => !ok);
      if (failed) throw new Error(`VM ${number} does not start: ${failed.message}`);
      started.push(vm);
    }
    return started;
  }

  /** An Initialized activity on a VM's node. */
  async #activity(number: number) {
    const node = await this.node(number);
    const { env = {}, memoryGib = 0.25 } = this.#options;
    const host = new ActivityHost({
      program: [LAUNCHER],
      service: node.service,
      gsbUrl: node.url,
      folder: join(this.folder, `work-${number}-${this.vms.length}`),
      cacheFolder: join(this.folder, 'cache'),
      env: {
        ...this.environment,
        YA_VM_ACCEL: process.env.YAVM_TEST_ACCEL ?? 'tcg',
        YA_VM_LOCAL_IMAGES: '1',
        ...env,
        EXE_UNIT_LOG_DIR: undefined,
      },
    });
    const activity = await host.start({
      agreement: {
        requestorId: REQUESTOR,
        providerId: node.identity.nodeId,
        usageVector: VECTOR,
        limits: { memoryGib, storageGib: 0.25, cores: 1, threads: 1 },
        taskPackage: localImage(DEMO_IMAGE),
        capabilities: ['vpn'],
      },
    });
    return { node, activity, requestor: node.requestor(activity.activity) };
  }

  deploy(number: number): Flex {
    const { known = this.#all(number), ipv6 = false, oneNode = false } = this.#options;
    const idOf = (other: number) => nodeIdOf(oneNode ? 0 : other);
    const nodes = (of: (number: number) => string) =>
      Object.fromEntries(known.map((other) => [of(other), idOf(other)]));
    const net: Flex[] = [{ id: NETWORK, ip: RANGE, nodeIp: addressOf(number), nodes: nodes(addressOf) }];
    if (ipv6) net.push({ id: NETWORK6, ip: RANGE6, nodeIp: address6Of(number), nodes: nodes(address6Of) });
    const hosts = Object.fromEntries(known.map((other) => [`vm${other}`, addressOf(other)]));
    return { deploy: { net, hosts, hostname: `vm${number}` } };
  }

  /** Tells a VM's relay of a change, as requestors do. */
  async control(to: VpnVm, message: Flex): Promise<Flex> {
    const address = `/net/${to.node.identity.nodeId}/vpn/${NETWORK}/VpnControl`;
    return await to.node.gsb.call(address, message, { deadline: 60_000 });
  }

  async stop(vm: VpnVm, grace?: number): Promise<void> {
    this.vms.splice(this.vms.indexOf(vm), 1);
    await vm.activity.stop(grace);
  }

  async close(): Promise<void> {
    await Promise.all(this.vms.splice(0).map(({ activity }) => activity.stop(0)));
    for (const node of this.#nodes.values()) await node.close();
    this.#nodes.clear();
  }

  /** Four, and the one itself. */
  #all(number: number): number[] {
    return [...new Set([1, 2, 3, 4, number])];
  }
}

async function shell(requestor: Requestor, line: string): Promise<ShellEnd> {
  const [result] = await requestor.finished(await requestor.exec([sh(line, false)]));
  const text = (output: unknown) => (typeof output === 'string' ? output : '');
  return {
    ok: result?.ok ?? false,
    stdout: text(result?.stdout),
    stderr: text(result?.stderr),
    message: result?.message ?? null,
  };
}
