/** Errors on a provider: its offer, its descriptor, a stock exe-unit. */
import type { Section } from './section.ts';

export const PROVIDER = {
  title: 'On a provider',
  rows: [
    {
      codes: ['YAVM_E_NO_KVM'],
      meaning: 'KVM does not work here, and emulation was not asked for',
      helps: "`ya-vm doctor`; `YA_VM_ACCEL=tcg` in the provider's environment, if you want to sell it",
    },
    {
      codes: ['YAVM_E_SELF_TEST'],
      meaning: 'a VM started, but does not do what an offer promises',
      helps: '`ya-vm test --log-level debug`; report it',
    },
    {
      codes: ['YAVM_E_DESCRIPTOR'],
      meaning: '`ya-vm.json` cannot be written, read or removed',
      helps: 'the message names the file; `--dir`, `--system`, `EXE_UNIT_PATH`',
    },
    {
      codes: ['YAVM_E_DESCRIPTOR_TAKEN'],
      meaning: 'another runtime is called `vm`',
      helps: '`ya-vm provider install --replace` puts it aside',
    },
    {
      codes: ['YAVM_E_PROVIDER_CHECK'],
      meaning: 'what is installed would not work for a provider',
      helps: 'the step and its detail',
    },
    {
      codes: ['YAVM_E_WORK_FOLDER', 'YAVM_E_DEPLOYMENT'],
      meaning: 'the work folder, or `deployment.json` in it, cannot be used',
      helps: 'its permissions; `deploy` before `start`, with the same `--workdir`',
    },
    {
      codes: ['YAVM_E_VOLUME'],
      meaning: 'a deploy (or `--volume-override`) asks for a volume that cannot be',
      helps: 'the message names the volume',
    },
    {
      codes: ['YAVM_E_STORAGE_OVERCOMMIT'],
      meaning:
        "`storage` volumes ask for more than the agreement's storage, or leave too little for the root",
      helps: 'the message has the sums: smaller volumes, or an agreement with more storage',
    },
    {
      codes: ['YAVM_E_VOLUMES'],
      meaning: 'folders of the host cannot be shared with the VM',
      helps:
        'virtiofsd is missing: `sudo apt-get install virtiofsd` (Debian 12: `qemu-system-common`); or it cannot run, then the message says why: ordinary users need user namespaces; or boot a kernel with 9p',
    },
    {
      codes: ['YAVM_E_NO_ENTRYPOINT'],
      meaning: '`start-entrypoint`, and the image has no Entrypoint and no Cmd',
      helps: 'another image',
    },
    {
      codes: ['YAVM_E_NET_ENDPOINT'],
      meaning:
        "an endpoint of a stock exe-unit's network (`--vpn-endpoint`, `--inet-endpoint`) cannot be opened: nobody is there",
      helps: 'the exe-unit opens its end first: its log',
    },
    {
      codes: ['YAVM_E_RUNTIME_FRAME', 'YAVM_E_RUNTIME_REQUEST', 'YAVM_E_RUNTIME_PROCESS'],
      meaning: 'what the exe-unit sent to the runtime makes no sense, or names a process that does not run',
      helps: 'report it',
    },
  ],
} as const satisfies Section;
