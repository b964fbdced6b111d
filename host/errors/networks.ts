/** Errors of networks: VPNs, the way to the internet, published ports. */
import type { Section } from './section.ts';

export const NETWORKS = {
  title: 'Networks',
  rows: [
    {
      codes: ['YAVM_E_NET_ADDRESS'],
      meaning:
        "a network's or a node's address is none, is one that no node can have, or is outside the network",
      helps: "the script's `net`; the provider's log has the field",
    },
    {
      codes: ['YAVM_E_NET_TAKEN'],
      meaning: "an address, a range or a network's id is there twice",
      helps: 'networks of one activity are apart, and an address belongs to one node',
    },
    { codes: ['YAVM_E_NET_NODE'], meaning: "a node's id is none", helps: '`0x` and 40 hexadecimal digits' },
    {
      codes: ['YAVM_E_NET_NETWORK'],
      meaning: "a network's id cannot be part of a name on the bus, or there are too many networks or nodes",
      helps: 'the message has the bound',
    },
    {
      codes: ['YAVM_E_NET_BUS'],
      meaning: 'a VPN was asked for where there is no node, as by `from-file` without `--service-id`',
      helps: 'run it at a node: `ya-vm exec-script`, `ya-vm node`',
    },
    {
      codes: ['YAVM_E_NET_THREAD'],
      meaning:
        "the thread that moves a VM's frames has failed, or is asked too much: nothing passes any more",
      helps: 'the cause is quoted; start the VM again, and report it',
    },
    {
      codes: ['YAVM_E_NET_CAPTURE'],
      meaning:
        "what a VM's network cards see cannot be written: no file of yours, a full disk (the capture ends, the network goes on), or another capture runs",
      helps: 'the message says which; `--pcap`, `ya-vm net capture`',
    },
    {
      codes: ['YAVM_E_NET_CONTROL'],
      meaning: "a running VM's network cannot be asked: it has none, it ends, or it does not answer",
      helps: '`ya-vm ps`; a network is given at the start: `--net`, `--vpn`',
    },
    {
      codes: ['YAVM_E_NET_RULE'],
      meaning:
        "a URL for outbound connections (the manifest's `urls`, `--allow`) is none, has no port, or has a host that is neither a name nor an address",
      helps: 'the message has the URL; `scheme://host:port` always works, patterns do not',
    },
    {
      codes: ['YAVM_E_NET_PING'],
      meaning: 'no answer to an echo request in time, or nobody has this address',
      helps: "`ya-vm net peers` lists who was heard; the peer's own rules may forbid it",
    },
    {
      codes: ['YAVM_E_NET_FRAME'],
      meaning: "what comes through a network card's cable is no frame, or the cable broke",
      helps: 'the other end is no QEMU, passt or runtime of ours, or it failed: the log around it',
    },
    {
      codes: ['YAVM_E_NET_SIBLINGS'],
      meaning:
        'another VM of this user, in the same network of the same requestor, speaks another version or does not keep to the rules; or the run folder has too long a path for a socket',
      helps:
        'VMs of one ya-vm share; the others wait until the one that has the names ends. A shorter `XDG_RUNTIME_DIR`',
    },
    {
      codes: ['YAVM_E_NET_PUBLISH'],
      meaning: 'a port of the VM cannot be reached on the host: it is taken, or its address cannot be had',
      helps: 'another port or address; on IPv6 addresses passt has to run',
    },
    {
      codes: ['YAVM_E_NET_PASST'],
      meaning:
        "passt, which makes the VM's connections to the internet, cannot be used, or ended twice; the VM goes on, and what it connects to is refused at once",
      helps:
        'the message has its last words; `ya-vm doctor`; `sudo apt-get install passt`; ordinary users must be allowed user namespaces; [where passt cannot run](network.md#where-passt-cannot-run)',
    },
    {
      codes: ['YAVM_E_NET_OUTBOUND'],
      meaning: 'a VM that may reach the internet has no way there',
      helps: 'what `YA_VM_OUTBOUND` forces cannot be used: the cause says why',
    },
  ],
} as const satisfies Section;
