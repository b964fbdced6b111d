/** Errors of the bus (GSB). */
import type { Section } from './section.ts';

export const BUS = {
  title: 'The bus (GSB)',
  rows: [
    {
      codes: ['YAVM_E_GSB_URL'],
      meaning: '`GSB_URL` is not the address of a bus',
      helps: '`unix:/path/of/the.sock` or `tcp://host:port`',
    },
    {
      codes: ['YAVM_E_GSB_CLOSED'],
      meaning: 'there is no connection to the bus: the node does not run, or was gone for too long',
      helps: 'is yagna running, and is `GSB_URL` the same for it and for ya-vm',
    },
    {
      codes: ['YAVM_E_GSB_TAKEN'],
      meaning: 'another program on the bus has the name',
      helps: 'a second supervisor of the same activity',
    },
    {
      codes: ['YAVM_E_GSB_REFUSED'],
      meaning: 'the bus does not take the name or the topic',
      helps: 'the message says which',
    },
    {
      codes: ['YAVM_E_GSB_TIMEOUT'],
      meaning: 'a call was not answered in time',
      helps: 'the cause says whether there was a connection',
    },
    {
      codes: ['YAVM_E_GSB_NO_ENDPOINT'],
      meaning: 'nobody has the address that was called',
      helps: 'the program that should have it has ended, or has not begun',
    },
    {
      codes: ['YAVM_E_GSB_SERVICE', 'YAVM_E_GSB_REMOTE'],
      meaning: 'the other side failed',
      helps: 'what it said is quoted',
    },
    {
      codes: ['YAVM_E_GFTP'],
      meaning:
        "a requestor's file was not given or not taken: its publisher refused, or answered what it may not",
      helps: "the message quotes it; is the file still there, and the same, on the requestor's side",
    },
    {
      codes: ['YAVM_E_LOCAL_FILE'],
      meaning: 'a file that a script names as `local:PATH` cannot be read or written',
      helps: 'the path is relative to where `ya-vm exec-script` runs; a file, not a directory',
    },
    {
      codes: ['YAVM_E_GSB_BUSY'],
      meaning: 'too many calls at a time',
      helps: 'fewer; the limits are in `host/gsb/incoming.ts` and `host/gsb/outgoing.ts`',
    },
    {
      codes: ['YAVM_E_GSB_OVERFLOW'],
      meaning: "a stream's items were not read as fast as they came",
      helps: 'a faster reader',
    },
    {
      codes: ['YAVM_E_GSB_FRAME', 'YAVM_E_GSB_BODY'],
      meaning: "what came is not of the bus's protocol, or what should be sent cannot be written in it",
      helps: "which program sent it: the bus's log, `--log-level debug`",
    },
  ],
} as const satisfies Section;
