/** How a command's end is worded for the requestor: the catalogue of the spec's exe-unit.md, 4.6, with our codes behind it. */
import { describeError, findYavmError } from '../lib/errors.ts';
import type { Outcome } from './batch.ts';
import type { CommandKind } from './state.ts';
import type { RunEnd } from './types.ts';

export const SUCCESS: Outcome = { returnCode: 0, message: null };

export const SIGN_UNSUPPORTED: Outcome = {
  returnCode: -1,
  message: "signing not supported: binary built without the 'sgx' feature",
};

/** A command that another batch's terminate did not let begin. */
export const STOPPED: Outcome = {
  returnCode: -1,
  message: 'ExeScript command error: the activity was terminated by another batch (YAVM_E_TERMINATED)',
};

/** Characters of a message at most: it can hold a console's last lines. */
const MAX_MESSAGE = 4096;

/** A command that did not run, or not to its end. */
export function failure(message: string): Outcome {
  return { returnCode: -1, message: message.slice(0, MAX_MESSAGE) };
}

/** What a program ended with. */
export function programEnd({ exitCode, outOfMemory }: RunEnd): Outcome {
  if (exitCode === 0) return SUCCESS;
  const remark = outOfMemory ? ': out of memory (YAVM_E_OUT_OF_MEMORY)' : '';
  return { returnCode: exitCode, message: `ExeScript command exited with code ${exitCode}${remark}` };
}

/** By whose fault it was, as upstream names it; the code of ours that is found first decides, then the command. */
const SOURCES: readonly (readonly [code: RegExp, prefix: string])[] = [
  // The bus carries nothing of a runtime's but files.
  [
    /^YAVM_E_(TRANSFER|HTTP|GFTP|GSB|URL|IMAGE_(CACHE|DOWNLOAD|HASH))/,
    'Local service error: Transfer error: ',
  ],
  [/^YAVM_E_(NET|VPN|INET)/, 'Net error: '],
];
/** A start has nothing to do with files: what it needs of the bus is the node's identity, for a VPN. */
const OF_A_START: typeof SOURCES = [[/^YAVM_E_GSB_/, 'Gsb error: '], ...SOURCES];
const BY_KIND: Partial<Record<CommandKind, string>> = { transfer: 'Local service error: Transfer error: ' };
const OTHERS = 'Runtime error: ';

/** What the runtime threw. */
export function runtimeFailure(kind: CommandKind, error: unknown): Outcome {
  const code = findYavmError(error)?.code ?? '';
  const sources = kind === 'start' ? OF_A_START : SOURCES;
  const prefix = sources.find(([pattern]) => pattern.test(code))?.[1] ?? BY_KIND[kind] ?? OTHERS;
  // Hints are for the provider; the log has them.
  const text = describeError(error).replace(/\n {2}hint: [\s\S]*$/, '');
  return failure(prefix + text);
}
