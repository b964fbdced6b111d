/** Errors of the embedded node. */
import type { Section } from './section.ts';

export const NODE = {
  title: 'The embedded node',
  rows: [
    {
      codes: ['YAVM_E_NODE_LISTEN'],
      meaning: 'the node cannot listen at its address',
      helps: 'another address; who listens there: `ss -xlp`, `ss -tlp`',
    },
    {
      codes: ['YAVM_E_NODE_TAKEN'],
      meaning: 'two nodes of one network have the same id',
      helps: 'give each node an identity of its own',
    },
    {
      codes: ['YAVM_E_NODE_MESSAGE'],
      meaning: 'a supervisor or an activity sent what is no message of the protocol',
      helps: 'the message says which field; report it if both sides are ya-vm',
    },
    {
      codes: ['YAVM_E_NODE_FULL'],
      meaning: 'the node remembers as many activities as it can',
      helps: 'start it again',
    },
    {
      codes: ['YAVM_E_NODE_COST'],
      meaning: 'prices and counters of an agreement do not fit',
      helps: 'one coefficient a counter, and the price of the start',
    },
    {
      codes: ['YAVM_E_ACTIVITY_START'],
      meaning: 'the supervisor did not get its activity going',
      helps: 'the message quotes it; its log is where the hint says',
    },
    {
      codes: ['YAVM_E_ACTIVITY_LOST'],
      meaning: 'the supervisor ended while its script ran',
      helps: 'its log; run it with `--work-dir` to keep that',
    },
  ],
} as const satisfies Section;
