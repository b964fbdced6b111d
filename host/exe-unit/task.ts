/** What an activity is to be, from the files that the command line names; and the folders it needs. */
import { realpathSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { YavmError } from '../lib/errors.ts';
import { makeFolders } from '../lib/make-folders.ts';
import type { OutboundPolicy } from '../network/types.ts';
import { type Agreement, readAgreement } from './agreement.ts';
import { parseManifest, type ScriptRules, scriptRules, selectPayload } from './manifest.ts';
import { outboundPolicy } from './network-plan.ts';
import type { ExeUnitOptions } from './options.ts';
import { parseScript } from './script.ts';
import type { ScriptCommand } from './types.ts';

export interface Task {
  agreement: Agreement;
  /** What the manifest allows in a script; null: everything. */
  rules: ScriptRules | null;
  /** The manifest's image, else the agreement's. */
  taskPackage: string | undefined;
  /** What the manifest lets out; null: nothing. */
  outbound: OutboundPolicy | null;
  /** Absolute, links resolved. */
  workFolder: string;
  cacheFolder: string;
  /** Of from-file. */
  script: ScriptCommand[] | null;
}

/** Rust's name of the architecture that the guest has. */
const ARCHITECTURE = 'x86_64';
const MAX_SCRIPT = 64 * 1024 * 1024;

/** @throws {YavmError} YAVM_E_AGREEMENT, YAVM_E_MANIFEST, YAVM_E_NET_RULE, YAVM_E_WORK_FOLDER, YAVM_E_SCRIPT */
export async function readTask(options: ExeUnitOptions): Promise<Task> {
  const agreement = await readAgreement(options.agreement);
  const manifest = agreement.manifest === undefined ? null : parseManifest(agreement.manifest);
  return {
    agreement,
    rules: manifest && scriptRules(manifest),
    taskPackage: (manifest && selectPayload(manifest, ARCHITECTURE)) ?? agreement.taskPackage,
    outbound: outboundPolicy(manifest),
    workFolder: makeFolder(options.workFolder),
    cacheFolder: makeFolder(options.cacheFolder),
    script: options.script === undefined ? null : await readScript(options.script),
  };
}

function makeFolder(path: string): string {
  try {
    makeFolders(path);
    return realpathSync(path);
  } catch (cause) {
    throw new YavmError('YAVM_E_WORK_FOLDER', `${path}: this folder cannot be made`, { cause });
  }
}

async function readScript(path: string): Promise<ScriptCommand[]> {
  try {
    const text = await readFile(path, 'utf8');
    if (text.length > MAX_SCRIPT) throw new Error('it is too large');
    return parseScript(JSON.parse(text));
  } catch (cause) {
    throw new YavmError('YAVM_E_SCRIPT', `${path}: no script of commands`, { cause });
  }
}
