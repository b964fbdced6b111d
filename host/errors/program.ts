/** Errors of the program itself: its command line, its files, VMs that it looks for. */
import type { Section } from './section.ts';

export const PROGRAM = {
  title: 'Using the program',
  rows: [
    { codes: ['YAVM_E_USAGE'], meaning: 'the command line makes no sense', helps: '`ya-vm COMMAND --help`' },
    {
      codes: ['YAVM_E_ENV_FILE'],
      meaning: 'a file of `--env-file` cannot be read',
      helps: 'its path and permissions',
    },
    {
      codes: ['YAVM_E_LOG_FILE'],
      meaning: 'the file of `--log-file` cannot be written',
      helps: 'its folder and permissions',
    },
    {
      codes: ['YAVM_E_REPORT'],
      meaning:
        'the file of `--report` cannot be written, the folder of `boot-test --keep` or of `man --out`; the command did run',
      helps: 'its folder and permissions',
    },
    {
      codes: ['YAVM_E_NO_SUCH_VM'],
      meaning: 'no running VM has this id',
      helps: '`ya-vm ps`; VMs of other users are not listed',
    },
    { codes: ['YAVM_E_AMBIGUOUS_VM'], meaning: 'several VMs are meant', helps: 'more letters of the id' },
    {
      codes: ['YAVM_E_ATTACH'],
      meaning: 'a running VM does not answer other processes',
      helps: 'it is starting or ending: try again; `ya-vm ps`',
    },
    {
      codes: ['YAVM_E_ATTACH_CLOSED'],
      meaning: 'the VM ended while something was asked of it',
      helps: 'why it ended is told by the `ya-vm` that ran it',
    },
    {
      codes: ['YAVM_E_ATTACH_LISTEN'],
      meaning: 'a VM cannot listen for other processes',
      helps: 'a shorter or writable `XDG_RUNTIME_DIR`',
    },
    {
      codes: ['YAVM_E_CONSOLE'],
      meaning: 'a console or serial port cannot be opened',
      helps: 'is it in use (`fuser -v DEVICE`), is your user in its group (`ls -l DEVICE`)',
    },
    {
      codes: ['YAVM_E_STOP'],
      meaning: 'a supervising process does not end, or may not be signalled',
      helps: '`ps -o pid,stat,wchan,args PID`',
    },
    {
      codes: ['YAVM_E_DIST_FULL'],
      meaning: 'the single program has no room to unpack its kernel: 60 MB in the cache, once a version',
      helps: 'make room, or `XDG_CACHE_HOME` on another disk',
    },
    {
      codes: ['YAVM_E_DIST_FOLDER'],
      meaning:
        "the single program cannot unpack its kernel: the cache's folder is read-only, or another user's",
      helps: '`XDG_CACHE_HOME` names a folder that you may write',
    },
    {
      codes: ['YAVM_E_DIST_DAMAGED'],
      meaning: "the program's own bytes are not what its build put there",
      helps: 'install it again; `sha256sum -c SHA256SUMS`',
    },
    {
      codes: ['YAVM_E_INTERNAL'],
      meaning: 'nobody foresaw this',
      helps: 'run it again with `--log-level debug`, and report it',
    },
  ],
} as const satisfies Section;
