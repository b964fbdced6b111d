/** Errors of the command that runs in a VM. */
import type { Section } from './section.ts';

export const COMMAND = {
  title: 'The command',
  rows: [
    {
      codes: ['YAVM_E_GUEST_SPAWN_FAILED'],
      meaning: 'the command cannot be started; exit code 126 or 127',
      helps: 'the message names the call and the path; a script needs its interpreter in the image',
    },
    {
      codes: ['YAVM_E_GUEST_UNKNOWN_USER'],
      meaning: "the image's passwd has no such user",
      helps: 'a number always works: `--user 1000:1000`',
    },
    {
      codes: ['YAVM_E_COMMAND_TIMEOUT'],
      meaning: 'the time that `--timeout` gives the command passed',
      helps: 'a longer one',
    },
    {
      codes: ['YAVM_E_OUTPUT_INCOMPLETE'],
      meaning: 'the guest announced more output than arrived within 5 s',
      helps: 'report it: this should not happen while the VM lives',
    },
    {
      codes: ['YAVM_E_OUTPUT'],
      meaning: 'standard output or error cannot be written; the command was killed',
      helps: 'the reason is quoted: a full disk, mostly',
    },
    { codes: ['YAVM_E_GUEST_UNKNOWN_PROCESS'], meaning: 'the command has ended already' },
  ],
} as const satisfies Section;
