/** Errors of a VM: why it did not start, and why it ended. */
import type { Section } from './section.ts';

export const VM = {
  title: 'Starts and ends of a VM',
  rows: [
    {
      codes: ['YAVM_E_DISK_FAILED'],
      meaning: "the host's disk refused what the VM wrote, for 10 s; the reason is quoted",
      helps: "the host's disk: `dmesg`",
    },
    {
      codes: ['YAVM_E_BOOT_TIMEOUT'],
      meaning: 'the guest did not say hello in time',
      helps: "a busy host: try again; the console's last lines are quoted",
    },
    {
      codes: ['YAVM_E_QEMU_DIED'],
      meaning: 'QEMU ended, its messages are quoted',
      helps: "signal 9: the host's out-of-memory killer (`dmesg`) or a person",
    },
    {
      codes: ['YAVM_E_GUEST_PANIC'],
      meaning: "the guest's kernel panicked",
      helps: "the console's last lines are quoted; too little `--memory`?",
    },
    {
      codes: ['YAVM_E_AGENT_ABORT'],
      meaning: 'the agent in the guest gave up, its last words are quoted',
      helps: 'report it',
    },
    {
      codes: ['YAVM_E_GUEST_POWEROFF'],
      meaning: 'something in the VM turned the VM off',
      helps: 'a command that ran `poweroff` or `reboot`',
    },
    { codes: ['YAVM_E_VM_STOPPED'], meaning: 'the VM was stopped while something was asked of it' },
    {
      codes: ['YAVM_E_PROTOCOL_VERSION'],
      meaning: 'the agent is of another version than ya-vm',
      helps: '`make build`',
    },
    {
      codes: ['YAVM_E_GUEST_PROTOCOL'],
      meaning: 'the guest sent what the protocol does not have; its VM was ended',
      helps: 'an image that attacks its host, or a bug: report it',
    },
    {
      codes: ['YAVM_E_GUEST_TIMEOUT'],
      meaning: 'the guest does not answer',
      helps: 'it is overloaded or stuck: `ya-vm console`',
    },
    {
      codes: ['YAVM_E_TIMEOUT'],
      meaning: 'something else did not answer in time',
      helps: 'the message names it',
    },
    {
      codes: ['YAVM_E_QMP'],
      meaning: "QEMU's monitor failed",
      helps: 'QEMU is ending, or of a version that differs much',
    },
    {
      codes: ['YAVM_E_TEMPLATE'],
      meaning: 'a template cannot be made or used; the VM boots instead, unless `--start template` was given',
      helps: 'the message says why; `ya-vm template list`, `ya-vm template verify`',
    },
  ],
} as const satisfies Section;
