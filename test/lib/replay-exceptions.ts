/** Where our supervisor says something else than the recorded one did, and why. Rows are those of exe-unit.md 11.2. */
import type { Difference } from './replay-meaning.ts';

export interface Exception {
  /** Scenarios; default all. */
  in?: readonly string[];
  path: RegExp;
  /** What the recorded one said and what ours says, as JSON; `nothing` where there is nothing. */
  theirs: RegExp;
  ours: RegExp;
  why: string;
  /** On a slow machine, or on a fast one, there may be no difference. */
  byPace?: true;
}

const NOTHING = /^nothing$/;
const ANYTHING = /^(?!nothing$)/;
const UNAVAILABLE = '^"500 Called service `/public/exeunit/\\w+/StreamExecBatchResults` is unavailable"$';
const FAILED_START = ['manifest-init-failure', 'yagna-early-termination'];
const TRANSFERS = ['transfer', 'transfer, and a 404 is an error'];
const TERMINATED_BY_ANOTHER =
  'Unexpected state: StatePair\\(Initialized, %\\), expected StatePair\\(Ready, Some\\(Ready\\)\\)"$';

export const EXCEPTIONS: readonly Exception[] = [
  {
    path: /^unregistered\/\d+$/,
    theirs: NOTHING,
    ours: /^"\/public\/(exeunit|vpn)\/\w+\/\w+"$/,
    why: 'an orderly end gives the names back before it closes (the issue; row 26 for the VPN)',
  },
  {
    in: ['vpn-redeploy'],
    path: /^answers\/\d+ (VpnControl|raw)$/,
    theirs: /^"500 Called service `\/public\/vpn\/net1\/(VpnControl|raw)` is unavailable"$/,
    ours: /^"none"$/,
    why: 'a terminate gives the VPN its names back, so the bus itself refuses such a call (row 26)',
  },
  {
    in: ['vpn-start-errors'],
    path: /^(registered\/\d+|answers\/\d+ GetExecBatchResults v3\/Ok\/2\/(message|result))$/,
    theirs: /^(nothing|"Error"|"Net error: Network IP address taken: 192\.168\.8\.0")$/,
    ours: /^("\/public\/vpn\/z\/\w+"|null|"Ok")$/,
    why: 'networks of a start that failed are forgotten: the next one may have the same addresses',
  },
  {
    path: /^usage\/0$/,
    theirs: NOTHING,
    ours: ANYTHING,
    why: 'the last vector is reported before the end: what was used since the last second is paid as well',
  },
  {
    in: [
      'exe-unit2gsb-stream',
      'exe-unit2gsb-terminate',
      'exe-unit2gsb-wait-once',
      'sdk-runtime',
      'yagna-sigkill',
    ],
    path: /^usage\/0$/,
    theirs: ANYTHING,
    ours: /^nothing$|^\{/,
    why: 'played in less than a second, and killed',
    byPace: true,
  },
  {
    path: /^(answers\/\d+ GetExecBatchResults \w+\/Ok\/\d+\/|streams\/\d+ \w+ \w+\/\d+ )stdout$/,
    theirs: /startMode/,
    ours: /^(null|nothing)$/,
    why: 'a deploy prints nothing: there is no runtime process whose answer to the supervisor could be its output',
  },
  {
    path: /^streams\/\d+ \w+ \w+\/[01] started$/,
    theirs: NOTHING,
    ours: /^\{"command":\{"(deploy|terminate|transfer)"/,
    why: "a batch's first subscriber gets it from its start (row 4)",
  },
  {
    in: ['deploy-gftp-image'],
    path: /^streams\/5 \w+ d2\/0 (of|finished)$/,
    theirs: NOTHING,
    ours: ANYTHING,
    why: 'the terminate at its start is told as well (row 4)',
  },
  {
    path: /^streams\/\d+ \w+ \w+\/end$/,
    theirs: new RegExp(`${UNAVAILABLE}|^"open"$`),
    ours: /^"end"$/,
    why: 'a stream ends with its batch (row 4)',
  },
  {
    in: ['batch-process-mode'],
    path: /^answers\/[45] GetExecBatchResults b1\/(Err|Ok)$/,
    theirs: /^("timeout"|nothing)$/,
    ours: /^nothing$|"result":"Error".*\}\]$/,
    why: 'who waits for a command behind one that failed is told of the failure, not of a time-out (row 3)',
  },
  {
    in: ['errors'],
    path: /^answers\/34 GetExecBatchResults f1$/,
    theirs: /^"500 Called service/,
    ours: /^\{"Ok":\[\{.*"stdout":"a\\n"\}\]\}$/,
    why: 'a negative time-out is no wait, and not the end of the supervisor (row 25)',
  },
  {
    in: ['errors'],
    path: /^answers\/35 GetActivityState$/,
    theirs: /^"none"$/,
    ours: /^\{"Ok":\{"state":\["Ready",null\]\}\}$/,
    why: 'it lives on after that (row 25)',
  },
  {
    in: ['errors'],
    path: /^states\/1[56]$/,
    theirs: NOTHING,
    ours: /"state":\["(Ready","Terminated"|Terminated",null)\]/,
    why: 'and is ended in order, with a report (row 25)',
  },
  {
    in: ['usage-report-refused', 'report-address-unbound'],
    path: /^states\/2\/state\/reason$/,
    theirs: /^"Runtime error: Reporting endpoint '\/local\/activity' is not available: /,
    ours: /^"Interrupted by signal: 15: /,
    why: 'a report that fails does not end the activity: it goes on until it is told to end (row 1)',
  },
  {
    in: FAILED_START,
    path: /^registered\/\d$/,
    theirs: ANYTHING,
    ours: NOTHING,
    why: 'an activity that cannot start binds no names: nobody could use it (row 28)',
  },
  {
    in: FAILED_START,
    path: /^states\/0\/state\/(state\/[01]|reason|errorMessage)$/,
    theirs: /^("New"|"Terminated"|nothing)$/,
    ours: /^("Terminated"|null|"the activity cannot start"|"manifest\.version: not a version")$/,
    why: 'its only report is the last one, with the reason (row 28)',
  },
  {
    in: FAILED_START,
    path: /^states\/[12]$/,
    theirs: /"state":\["(Initialized|Terminated)",null\]/,
    ours: NOTHING,
    why: 'it never says that it is Initialized (row 28)',
  },
  {
    in: ['register-conflict.connection-2'],
    path: /^registered\/\d+$/,
    theirs: /./,
    ours: ANYTHING,
    why: "names that are taken are tried three times on the same connection (hot list 5), then it leaves without another word: the activity is the other one's",
  },
  {
    in: ['terminate-running'],
    path: /^(answers\/5 \w+ b1\/Ok\/2\/message|streams\/2 \w+ b1\/2 finished\/message)$/,
    theirs: new RegExp(TERMINATED_BY_ANOTHER.replace('%', 'Some\\(Deployed\\)')),
    ours: new RegExp(TERMINATED_BY_ANOTHER.replace('%', 'None')),
    why: 'the command has ended before the terminate is over, not somewhen in the commands behind it: the pair is the one at that moment (4.3)',
  },
  {
    in: ['sigterm-running-process'],
    path: /^streams\/2 \w+ b1\/2 finished$/,
    theirs: /Unexpected state: StatePair\(Ready, Some\(Terminated\)\)/,
    ours: NOTHING,
    why: "the end of the activity is not told as one of its command, as with upstream's service mode",
  },
  {
    in: ['stream'],
    path: /^streams\/2 \w+ b1\/0 progress\/(1\/progress\/0|2|2\/progress\/0)$/,
    theirs: ANYTHING,
    ours: /^(\d+|nothing)$/,
    why: 'four reports a second at most, and the last one always (row 17): all bytes came within one interval',
    byPace: true,
  },
  {
    in: ['deploy-gftp-image'],
    path: /^streams\/2 \w+ d1\/0 progress\/1$/,
    theirs: NOTHING,
    ours: /"progress":\[50000,50000\]/,
    why: 'the last progress is always told (row 17)',
  },
  {
    in: TRANSFERS,
    path: /^streams\/2 \w+ t1\/3 progress$/,
    theirs: NOTHING,
    ours: /"progress":\[0,50000\].*"progress":\[50000,50000\]/,
    why: 'a transfer that takes no time is told about too (row 17)',
  },
  {
    in: TRANSFERS,
    path: /^outward\/[78]$/,
    theirs: NOTHING,
    ours: /gftp\/none\/GetMetadata"/,
    why: 'a publisher that is not there may come back: two more attempts (6.6)',
  },
  {
    in: TRANSFERS,
    path: /^answers\/4 \w+ t2\/Ok\/0\/message$/,
    theirs: /GSB error: Bad request: endpoint address not found"$/,
    ours: /Transfer error: GSB error: \/transfer\/net\/0x0+cc\/gftp\/none\/GetMetadata: endpoint address not found"$/,
    why: 'which address is said',
  },
  {
    in: TRANSFERS,
    path: /^(answers\/7 \w+ t3\/Ok\/0|streams\/6 \w+ t3\/0 finished)\/message$/,
    theirs: /HTTP error: io error: Os \{ code: 111/,
    ours: /Transfer error: HTTP error: http:\/\/127\.0\.0\.1:1\/none: connect ECONNREFUSED/,
    why: 'which server is said, and in other words',
  },
  {
    in: ['transfer'],
    path: /^(answers\/1 \w+ t1\/Ok\/9|streams\/2 \w+ t1\/9 finished)\/message$/,
    theirs: /Transfer error: Incorrect hash .*: calculated hash 6962b5\w+ differs from the expected one 0+"$/,
    ours: /Transfer error: http:.*\/in\.bin: Incorrect hash.*: calculated hash 6962b5\w+ differs from the expected one 0+"$/,
    why: 'which URL is said',
  },
  {
    in: ['transfer, and a 404 is an error'],
    path: /^(answers\/1 \w+ t1\/Ok\/8\/(isBatchFinished|message|result)|streams\/2 \w+ t1\/8 finished\/(message|return_code))$/,
    theirs: /^(false|null|"Ok"|0)$/,
    ours: /^(true|"Error"|-1|".*Transfer error: HTTP error: .*\/missing\.txt: the server answers 404\b.*")$/,
    why: 'the page that a server has for a missing file is not the file (6.6)',
  },
  {
    in: ['transfer, and a 404 is an error'],
    path: /^answers\/1 \w+ t1\/Ok\/9$/,
    theirs: ANYTHING,
    ours: NOTHING,
    why: 'so the batch ends there',
  },
  {
    in: ['transfer, and a 404 is an error'],
    path: /^states\/\d+\/state\/reason$/,
    theirs: /"batches_done\\":3,.*"cmds_done\\":12,/,
    ours: /"batches_done\\":2,.*"cmds_done\\":11,/,
    why: 'and leaves a command',
  },
  {
    in: ['stream'],
    path: /^streams\/2 \w+ b1\/2 stdout$/,
    theirs: /^"one\\ntw\uFFFD\uFFFD\\n"$/,
    ours: /^"one\\ntwö\\n"$/,
    why: 'a character whose bytes come apart stays one (4.9)',
  },
  {
    in: ['deploy-fails'],
    path: /^(answers\/1 \w+ r1\/Ok\/0\/message|streams\/2 \w+ r1\/0 finished\/(message|return_code))$/,
    theirs: /^("ExeScript command exited with code 3"|3)$/,
    ours: /^("Runtime error: deploy refused"|-1)$/,
    why: 'a deploy is no process with an exit code: its reason is in the message',
  },
  {
    in: ['deploy-fails'],
    path: /^(answers\/1 \w+ r1\/Ok\/0\/|streams\/2 \w+ r1\/0 )stderr$/,
    theirs: /^"deploy refused\\n"$/,
    ours: /^(null|nothing)$/,
    why: 'nor one with output',
  },
  {
    in: ['custom-counter'],
    path: /\/currentUsage\/1$/,
    theirs: /^42\.5$/,
    ours: /^0$/,
    why: 'a VM has no counters of its own: a custom one stays 0',
  },
];

export function isExcepted(
  exception: Exception,
  scenario: string,
  { path, theirs, ours }: Difference,
): boolean {
  if (exception.in && !exception.in.includes(scenario)) return false;
  const fits = (pattern: RegExp, value: unknown) => pattern.test(JSON.stringify(value) ?? 'nothing');
  return exception.path.test(path) && fits(exception.theirs, theirs) && fits(exception.ours, ours);
}
