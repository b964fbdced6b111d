/**
 * Where a requestor's URL may lead. The provider's host fetches it, and sees more than the requestor does: what answers
 * on link-local addresses believes whoever asks, and hands out the host's own credentials.
 */
import { type LookupAddress, lookup as systemLookup } from 'node:dns';
import { BlockList, isIP, type LookupFunction } from 'node:net';
import { YavmError } from '../lib/errors.ts';

export interface AddressPolicy {
  /** This link only, which is where clouds keep their metadata. */
  linkLocal: boolean;
  /** The host itself, and networks that the internet does not route. */
  private: boolean;
}

/** Read in the supervisor's environment; nothing but `allow` allows. */
const SWITCHES = { linkLocal: 'YA_VM_TRANSFER_LINK_LOCAL', private: 'YA_VM_TRANSFER_PRIVATE' } as const;

export function policyFrom(env: NodeJS.ProcessEnv): AddressPolicy {
  return {
    linkLocal: (env[SWITCHES.linkLocal] ?? 'deny') === 'allow',
    private: (env[SWITCHES.private] ?? 'allow') === 'allow',
  };
}

interface Group {
  /** "<address> is …" */
  name: string;
  /** What allows it; null: nothing does. */
  allowedBy: keyof AddressPolicy | null;
  /** Networks as `address/bits`. */
  networks: readonly string[];
}

/** The first that fits counts. */
const GROUPS: readonly Group[] = [
  {
    name: 'a link-local address or one of a cloud for its machines',
    allowedBy: 'linkLocal',
    // The single ones: metadata of Alibaba, Azure, AWS and Google outside of the link-local networks.
    networks: [
      ...['169.254.0.0/16', '100.100.100.200/32', '168.63.129.16/32'],
      ...['fe80::/10', 'fd00:ec2::/32', 'fd20:ce::254/128'],
    ],
  },
  {
    name: 'no address of a server',
    allowedBy: null,
    networks: ['0.0.0.0/8', '224.0.0.0/4', '240.0.0.0/4', '::/128', 'ff00::/8'],
  },
  {
    name: 'a private address',
    allowedBy: 'private',
    networks: [
      ...['127.0.0.0/8', '10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10', '198.18.0.0/15'],
      ...['::1/128', 'fc00::/7', 'fec0::/10'],
    ],
  },
];

/** Built when the first is checked: some hundred entries that most processes never need. */
let lists: Map<Group, BlockList> | undefined;

function groupOf(address: string): Group | undefined {
  lists ??= new Map(GROUPS.map((group) => [group, blockList(group.networks)]));
  const [plain = ''] = address.split('%');
  const family = isIP(plain) === 6 ? 'ipv6' : 'ipv4';
  return GROUPS.find((group) => lists?.get(group)?.check(plain, family));
}

function blockList(networks: readonly string[]): BlockList {
  const list = new BlockList();
  for (const network of networks) {
    const [address = '', bits = ''] = network.split('/');
    if (isIP(address) === 6) {
      list.addSubnet(address, Number(bits), 'ipv6');
      continue;
    }
    // Also covers ::ffff:a.b.c.d.
    list.addSubnet(address, Number(bits), 'ipv4');
    for (const [prefix, suffix, skipped] of EMBEDDINGS) {
      list.addSubnet(`${prefix}${hexOf(address)}${suffix}`, skipped + Number(bits), 'ipv6');
    }
  }
  return list;
}

/** IPv6 addresses that gateways turn into an IPv4 one: what stands before it and behind it, and bits before it. */
const EMBEDDINGS: readonly [string, string, number][] = [
  ['64:ff9b::', '', 96],
  ['64:ff9b:1::', '', 96],
  ['2002:', '::', 16],
  ['::ffff:0:', '', 96],
];

/** `a.b.c.d` as two groups of an IPv6 address. */
function hexOf(address: string): string {
  const [a = 0, b = 0, c = 0, d = 0] = address.split('.').map(Number);
  return `${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`;
}

/**
 * Checks an address that a URL of ours would connect to.
 * @param shown The URL, for the message.
 * @throws {YavmError} YAVM_E_URL_REFUSED
 */
export function checkAddress(address: string, policy: AddressPolicy, shown: string): void {
  const group = groupOf(address);
  if (!group || (group.allowedBy && policy[group.allowedBy])) return;
  const text = `${shown}: ${address} is ${group.name}: this provider does not connect to it`;
  const hint = group.allowedBy
    ? `The provider can allow it by ${SWITCHES[group.allowedBy]}=allow.`
    : undefined;
  throw new YavmError('YAVM_E_URL_REFUSED', text, { hint });
}

/**
 * A look-up for `net.connect` that lets no refused address through: what is checked is what is connected to, however the
 * name's server changes its mind. One refused address refuses the name.
 */
export function checkedLookup(
  policy: AddressPolicy,
  shown: string,
  lookup: LookupFunction = systemLookup as LookupFunction,
): LookupFunction {
  return (hostname, options, callback) => {
    lookup(hostname, options, (error, found, family) => {
      if (error) return callback(error, found, family);
      const addresses: readonly Pick<LookupAddress, 'address'>[] =
        typeof found === 'string' ? [{ address: found }] : found;
      try {
        for (const { address } of addresses) checkAddress(address, policy, shown);
      } catch (refused) {
        return callback(refused as NodeJS.ErrnoException, found, family);
      }
      callback(null, found, family);
    });
  };
}
