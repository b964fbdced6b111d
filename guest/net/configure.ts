/** The task's network as the host describes it: at configure, and again whenever the host sends `network`. */
import type { Native } from '../../native/face.ts';
import { GuestError } from '../errors.ts';
import { sleep } from '../lib/sleep.ts';
import type { NetworkSpec } from '../protocol/messages.ts';
import { formatAddress } from './address.ts';
import { runSteps } from './apply.ts';
import { type Link, type LinkInfo, parseLink, planLink, type Step } from './links.ts';
import { hostsText, resolverText, writeEtcFile } from './names.ts';

/** A NIC that is plugged in while the VM runs appears about 0.15 s later under emulation. */
const LINK_DEADLINE = 10_000;
const POLL_INTERVAL = 5;
const LOOPBACK = 'lo';

/** What the network acts through; every effect of it is here, so that tests can put their own. */
export interface NetworkContext {
  native: Native;
  /** The task's root. */
  rootFd: number;
  /** The VM's own name. */
  hostname: string;
  /** The loopback link is up before the first call; default false. */
  loopbackUp?: boolean;
  /** Loads the drivers of NICs. Called before the first link is looked for, and only if there is one. */
  loadDrivers: () => void;
}

/** Names as they are to be, and the files that say so. */
interface NamePlan {
  hosts: Record<string, string>;
  nameservers: string[];
  searchDomains: string[];
  hostsFile: string;
  resolverFile: string;
}

/** The network of one VM, and the memory of what was set: the kernel does not say which address came from whom. */
export class TaskNetwork {
  readonly #context: NetworkContext;
  readonly #deadline: number;
  /** By the MAC that names the link in specs. */
  readonly #links = new Map<string, Link>();
  #hosts: Record<string, string> = {};
  #searchDomains: string[] = [];
  /** Nobody can have taken it down: no command has run. */
  #loopbackUp: boolean;
  #nameservers: string[] = [];
  /** Whether /etc/resolv.conf is ours by now. */
  #ownsResolver = false;

  /** `deadline`: how long to wait for a link, milliseconds. */
  constructor(context: NetworkContext, deadline: number = LINK_DEADLINE) {
    this.#context = context;
    this.#deadline = deadline;
    this.#loopbackUp = context.loopbackUp ?? false;
  }

  /**
   * Makes the network what `spec` says. May be called any number of times: each part of the spec that is there
   * replaces that part, each part that is not there stays. Of a link, the listed addresses and routes replace those
   * that an earlier call set. The loopback link comes up with the first call.
   * @throws {GuestError} bad-request, before anything has changed; network-failed, file-failed, module-failed
   */
  async apply(spec: NetworkSpec): Promise<void> {
    const links = (spec.links ?? []).map(parseLink);
    checkDistinct(links);
    // What is wrong is found before anything changes.
    this.#plan(spec, links);

    if (!this.#loopbackUp) raiseLoopback(this.#context.native);
    this.#loopbackUp = false;
    if (links.length > 0) await this.#applyLinks(links);

    // Anew: other calls may have come while this one waited for a link, and what they set is not to be undone.
    const { hosts, nameservers, searchDomains, hostsFile, resolverFile } = this.#plan(spec, links);
    this.#writeFile('hosts', hostsFile);
    // Without a nameserver the image's own file stands: there may be one for a network that the task sets up itself.
    const resolves = nameservers.length > 0 || searchDomains.length > 0;
    if (resolves || this.#ownsResolver) this.#writeFile('resolv.conf', resolverFile);
    this.#ownsResolver ||= resolves;
    this.#hosts = hosts;
    this.#nameservers = nameservers;
    this.#searchDomains = searchDomains;
  }

  /** What the files of names hold once `spec` is applied. @throws {GuestError} bad-request */
  #plan(spec: NetworkSpec, links: Link[]): NamePlan {
    const hosts = spec.hosts ?? this.#hosts;
    const nameservers = spec.nameservers ?? this.#nameservers;
    const searchDomains = spec.searchDomains ?? this.#searchDomains;
    const all = new Map(this.#links);
    for (const link of links) all.set(link.mac, link);
    const hostsFile = hostsText(this.#context.hostname, ownAddress([...all.values()]), hosts);
    return {
      hosts,
      nameservers,
      searchDomains,
      hostsFile,
      resolverFile: resolverText(nameservers, searchDomains),
    };
  }

  async #applyLinks(links: Link[]): Promise<void> {
    const { native, loadDrivers } = this.#context;
    loadDrivers();
    let found = await this.#find(links);
    const freeing = freeNames(links, found);
    if (freeing.length > 0) {
      runSteps(native, freeing);
      found = await this.#find(links);
    }
    for (const [index, link] of links.entries()) {
      const now = found[index] as LinkInfo;
      const before = this.#links.get(link.mac) ?? null;
      // Remembered first: what a failure half way leaves must be removable by a later call.
      this.#links.set(link.mac, before ? joined(before, link) : link);
      runSteps(native, planLink(link, now, before));
      this.#links.set(link.mac, link);
    }
  }

  /** The kernel's link for each spec, in order; waits for those that are not there yet. @throws {GuestError} network-failed */
  async #find(links: Link[]): Promise<LinkInfo[]> {
    const { native } = this.#context;
    const start = native.monotonic();
    for (;;) {
      const there = native.links();
      const found = links.map((link) => this.#match(link, there));
      if (found.every((info) => info !== undefined)) return found as LinkInfo[];
      if (native.monotonic() - start >= this.#deadline) {
        const missing = links.filter((_, index) => !found[index]).map(({ mac }) => mac);
        const list = there.map(({ name, mac }) => `${name} ${mac}`).join(', ');
        throw new GuestError(
          'network-failed',
          `no network link with MAC ${missing.join(', ')} appeared in ${this.#deadline} ms; there: ${list || 'none'}`,
        );
      }
      await sleep(POLL_INTERVAL);
    }
  }

  /** By the NIC's MAC, or by the one that an earlier call gave it. */
  #match(link: Link, there: LinkInfo[]): LinkInfo | undefined {
    const given = this.#links.get(link.mac)?.setMac ?? null;
    return (
      there.find(({ mac }) => mac.toLowerCase() === link.mac) ??
      there.find(({ mac }) => given !== null && mac.toLowerCase() === given)
    );
  }

  #writeFile(name: string, text: string): void {
    writeEtcFile(this.#context.native, this.#context.rootFd, name, text);
  }
}

/** @throws {GuestError} network-failed */
export function raiseLoopback(native: Native): void {
  const loopback = native.links().find(({ name }) => name === LOOPBACK);
  if (loopback && !loopback.up) runSteps(native, [{ do: 'set', link: LOOPBACK, change: { up: true } }]);
}

/**
 * Steps that move links out of the way whose name another is to have: the kernel numbers NICs in the order in which
 * it finds them. `found[i]` is the link for `links[i]`; a name that a link outside the spec has is not taken from it.
 */
export function freeNames(links: Link[], found: LinkInfo[]): Step[] {
  const steps: Step[] = [];
  for (const [index, link] of links.entries()) {
    const holder = found.find((info, other) => other !== index && info.name === link.name);
    if (!holder) continue;
    if (holder.up) steps.push({ do: 'set', link: holder.name, change: { up: false } });
    steps.push({ do: 'set', link: holder.name, change: { rename: `yavm${holder.index}` } });
  }
  return steps;
}

/** The VM's own address: the first IPv4 one, else the first. */
export function ownAddress(links: Link[]): string | null {
  const addresses = links.flatMap((link) => link.addresses.map(({ address }) => address));
  const own = addresses.find(({ family }) => family === 4) ?? addresses[0];
  return own ? formatAddress(own) : null;
}

function checkDistinct(links: Link[]): void {
  for (const key of ['mac', 'name'] as const) {
    const values = links.map((link) => link[key]);
    const twice = values.find((value, index) => values.indexOf(value) !== index);
    if (twice !== undefined) throw new GuestError('bad-request', `two links with ${key} ${twice}`);
  }
}

/** A link with the addresses and routes of both. */
function joined(before: Link, link: Link): Link {
  return {
    ...link,
    addresses: [...before.addresses, ...link.addresses],
    routes: [...before.routes, ...link.routes],
  };
}
