/**
 * From what a link is to be and what it is now, to a list of steps. Pure: every effect is a {@link Step}, a row that
 * says what it does, and apply.ts carries it out.
 */
import type { Native } from '../../native/face.ts';
import { GuestError } from '../errors.ts';
import type { LinkSpec, RouteSpec } from '../protocol/messages.ts';
import {
  formatAddress,
  maskedAddress,
  type Network,
  parseAddress,
  parseMac,
  parseNetwork,
} from './address.ts';

/** A link as the kernel lists it. */
export type LinkInfo = ReturnType<Native['links']>[number];
export type LinkChange = Parameters<Native['linkSet']>[1];

export interface Route {
  /** Address of the destination, its host bits cleared; null for a default route. */
  destination: string | null;
  prefix: number;
  gateway: string | null;
  metric: number;
}

/** A checked {@link LinkSpec} in canonical spelling. */
export interface Link {
  /** MAC by which it is found. */
  mac: string;
  name: string;
  setMac: string | null;
  mtu: number | null;
  offloads: boolean;
  addresses: Network[];
  routes: Route[];
}

export type Step =
  | { do: 'set'; link: string; change: LinkChange }
  | { do: 'sysctl'; link: string; family: 'ipv4' | 'ipv6'; key: string; value: string }
  | { do: 'feature'; link: string; feature: string; on: boolean }
  | { do: 'address-add'; link: string; address: string; prefix: number }
  | { do: 'address-remove'; link: string; address: string; prefix: number }
  | { do: 'route-add'; link: string; route: Route }
  | { do: 'route-remove'; link: string; route: Route };

/** Settings of every configured link, before it comes up. */
const SYSCTLS: { family: 'ipv4' | 'ipv6'; key: string; value: string; why: string }[] = [
  {
    family: 'ipv6',
    key: 'accept_ra',
    value: '0',
    why: "the host says what the addresses are; a peer's router advertisement must not",
  },
  {
    family: 'ipv6',
    key: 'accept_dad',
    value: '0',
    why: 'the addresses are assigned, so nobody else has them; else programs could not bind to one for a second',
  },
];

/** Offloads to switch off, in an order in which none depends on one that is off already. */
const OFFLOADS = ['tso', 'gso', 'tx-checksum'];

/** Least MTU of a link with IPv6 (RFC 8200); below it the kernel switches IPv6 off and says EINVAL to addresses. */
const MIN_IPV6_MTU = 1280;

/** Checks a spec. @throws {GuestError} bad-request */
export function parseLink(spec: LinkSpec): Link {
  const link = parseFields(spec);
  if (
    link.mtu !== null &&
    link.mtu < MIN_IPV6_MTU &&
    link.addresses.some(({ address }) => address.family === 6)
  ) {
    throw new GuestError(
      'bad-request',
      `link '${link.name}': IPv6 needs an MTU of at least ${MIN_IPV6_MTU}, not ${link.mtu}`,
    );
  }
  return link;
}

function parseFields(spec: LinkSpec): Link {
  return {
    mac: parseMac(spec.mac),
    name: spec.name,
    setMac: spec.setMac === undefined ? null : parseMac(spec.setMac),
    mtu: spec.mtu ?? null,
    offloads: spec.offloads ?? true,
    addresses: spec.addresses.map(parseNetwork),
    routes: (spec.routes ?? []).map(parseRoute),
  };
}

/** Checks a route. @throws {GuestError} bad-request */
export function parseRoute({ to, via, metric = 0 }: RouteSpec): Route {
  const gateway = via === undefined ? null : formatAddress(parseAddress(via));
  if (to === 'default') return { destination: null, prefix: 0, gateway, metric };
  const network = parseNetwork(to);
  return { destination: formatAddress(maskedAddress(network)), prefix: network.prefix, gateway, metric };
}

/**
 * Steps that make the link `now` what `target` says. `before` is what an earlier call made of it: addresses and routes
 * that the target no longer lists are removed. Everything listed is added even if it should be there: taking the link
 * down, or a first address off, makes the kernel drop others, and an EEXIST costs one call.
 */
export function planLink(target: Link, now: LinkInfo, before: Link | null): Step[] {
  const steps: Step[] = [];
  const change = hardwareChange(target, now);
  const moves = change.rename !== undefined || change.mac !== undefined;
  const link = target.name;
  // A link that is up cannot be renamed, nor can most change their MAC then.
  if (moves && now.up) steps.push({ do: 'set', link: now.name, change: { up: false } });
  if (Object.keys(change).length > 0) steps.push({ do: 'set', link: now.name, change });
  for (const { family, key, value } of SYSCTLS) steps.push({ do: 'sysctl', link, family, key, value });
  if (!target.offloads)
    for (const feature of OFFLOADS) steps.push({ do: 'feature', link, feature, on: false });
  if (before) steps.push(...removals(target, before));
  if (moves || !now.up) steps.push({ do: 'set', link, change: { up: true } });
  for (const network of target.addresses) steps.push({ do: 'address-add', link, ...textual(network) });
  // On-link routes first: a gateway must be reachable when its route is added.
  const routes = [...target.routes].sort((a, b) => Number(a.gateway !== null) - Number(b.gateway !== null));
  for (const route of routes) steps.push({ do: 'route-add', link, route });
  return steps;
}

/** What a step does, for an error's text. */
export function describeStep(step: Step): string {
  switch (step.do) {
    case 'set':
      return Object.entries(step.change)
        .map(([key, value]) => `set ${key} ${value}`)
        .join(', ');
    case 'sysctl':
      return `set ${step.family} ${step.key} ${step.value}`;
    case 'feature':
      return `switch ${step.feature} ${step.on ? 'on' : 'off'}`;
    case 'address-add':
    case 'address-remove':
      return `${step.do === 'address-add' ? 'add' : 'remove'} address ${step.address}/${step.prefix}`;
    case 'route-add':
    case 'route-remove':
      return `${step.do === 'route-add' ? 'add' : 'remove'} route ${describeRoute(step.route)}`;
  }
}

function describeRoute({ destination, prefix, gateway, metric }: Route): string {
  const to = destination === null ? 'default' : `${destination}/${prefix}`;
  return [to, gateway === null ? '' : ` via ${gateway}`, metric === 0 ? '' : ` metric ${metric}`].join('');
}

/** Only what differs: most links need one call, and a second configure none. */
function hardwareChange(target: Link, now: LinkInfo): LinkChange {
  const change: LinkChange = {};
  if (now.name !== target.name) change.rename = target.name;
  if (target.setMac !== null && now.mac.toLowerCase() !== target.setMac) change.mac = target.setMac;
  if (target.mtu !== null && now.mtu !== target.mtu) change.mtu = target.mtu;
  return change;
}

function removals(target: Link, before: Link): Step[] {
  const link = target.name;
  const routes = new Set(target.routes.map(describeRoute));
  const addresses = new Set(target.addresses.map((network) => JSON.stringify(network)));
  return [
    ...before.routes
      .filter((route) => !routes.has(describeRoute(route)))
      .map((route): Step => ({ do: 'route-remove', link, route })),
    ...before.addresses
      .filter((network) => !addresses.has(JSON.stringify(network)))
      .map((network): Step => ({ do: 'address-remove', link, ...textual(network) })),
  ];
}

function textual({ address, prefix }: Network): { address: string; prefix: number } {
  return { address: formatAddress(address), prefix };
}
