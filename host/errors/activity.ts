/** Errors of an activity, which its requestor reads too. */
import type { Section } from './section.ts';

export const ACTIVITY = {
  title: 'An activity',
  intro: 'What a requestor reads ends with these codes too.',
  rows: [
    {
      codes: ['YAVM_E_AGREEMENT'],
      meaning: "the agreement's file cannot be read, or lacks what an activity needs",
      helps: 'the message names the field',
    },
    {
      codes: ['YAVM_E_MANIFEST'],
      meaning: "the requestor's manifest makes no sense",
      helps: 'the message names the field',
    },
    {
      codes: ['YAVM_E_SCRIPT'],
      meaning: 'a script of commands makes no sense',
      helps: 'the message names the command and the field',
    },
    {
      codes: ['YAVM_E_DEPLOY'],
      meaning: 'what was deployed, or was not, cannot be started: a failed deploy, a volume that cannot be',
      helps: '`terminate`, then another deploy',
    },
    { codes: ['YAVM_E_TERMINATED'], meaning: 'another batch terminated the activity, or it is over' },
    {
      codes: ['YAVM_E_OUT_OF_MEMORY'],
      meaning: 'the kernel ended the command because the VM has no more memory',
      helps: 'an agreement with more',
    },
    {
      codes: ['YAVM_E_OUTPUT_DROPPED'],
      meaning:
        'the message says how much of the output is missing: it was more than a result carries, or than the spool holds',
      helps: 'read it as a stream; capture less',
    },
    {
      codes: ['YAVM_E_SPOOL'],
      meaning: 'output cannot be kept on disk',
      helps: "room in the activity's folder",
    },
    {
      codes: ['YAVM_E_STREAM_STALLED'],
      meaning: "a stream's subscriber took nothing for 60 s",
      helps: 'a faster reader; results are still there',
    },
    {
      codes: ['YAVM_E_BATCH_LIMIT', 'YAVM_E_INDEX'],
      meaning: 'too many batches, streams or waiting calls at a time; an index that no script has',
      helps: 'fewer',
    },
    {
      codes: ['YAVM_E_LOCAL'],
      meaning: 'the private folder between `ya-vm run` and its exe-unit cannot be used',
      helps: '`XDG_RUNTIME_DIR`: its room and permissions',
    },
  ],
} as const satisfies Section;
