/** A script as people write it, a JSON array of commands, in the form of the bus (the spec's exe-unit.md, 5.1). */
import { readFile } from 'node:fs/promises';
import { parseBytes } from '../exe-unit/quantities.ts';
import { parseScript } from '../exe-unit/script.ts';
import type { Flex } from '../gsb/index.ts';
import { toError, YavmError } from '../lib/errors.ts';

export interface Script {
  /** What goes over the bus. */
  commands: Flex[];
  /** The commands' names, by index. */
  names: string[];
}

/** Longest script that is read, bytes. */
const MAX_SCRIPT = 16 * 1024 * 1024;

/** @throws {YavmError} YAVM_E_SCRIPT with what is wrong */
export async function readScript(path: string): Promise<Script> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    throw new YavmError('YAVM_E_SCRIPT', `${path}: the script cannot be read`, { cause });
  }
  return scriptOf(text, path);
}

/** `name` is for errors. */
export function scriptOf(text: string, name: string): Script {
  if (text.length > MAX_SCRIPT) throw new YavmError('YAVM_E_SCRIPT', `${name}: the script is too long`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    // The parser quotes the script, with its line breaks.
    const reason = toError(cause).message.replace(/\s+/g, ' ');
    throw new YavmError('YAVM_E_SCRIPT', `${name}: the script is no JSON: ${reason}`, {
      hint: 'A script is an array of commands: docs/node.md has one.',
    });
  }
  const names = checked(value, name);
  return { commands: (value as Record<string, Flex>[]).map(forBus), names };
}

/** Our own reader is as strict as upstream's: what it takes, an exe-unit does too. */
function checked(value: unknown, name: string): string[] {
  try {
    return parseScript(value).map(({ kind }) => kind);
  } catch (cause) {
    throw new YavmError('YAVM_E_SCRIPT', `${name}: not a script`, {
      cause,
      hint: 'A script is an array: [{"deploy": {}}, {"start": {}}, {"run": {"entry_point": "/bin/ls", "args": []}}]',
    });
  }
}

/** The one difference between the two forms: sizes are texts or numbers in JSON, numbers on the bus. */
function forBus(command: Record<string, Flex>): Flex {
  const deploy = command.deploy as { volumes?: unknown } | undefined;
  if (!deploy?.volumes || Array.isArray(deploy.volumes)) return command;
  const volumes = Object.entries(deploy.volumes as Record<string, Record<string, Record<string, Flex>>>);
  return {
    deploy: {
      ...deploy,
      volumes: Object.fromEntries(volumes.map(([path, mount]) => [path, mountForBus(mount)])),
    },
  };
}

const SIZES = ['size', 'preallocate'];

function mountForBus(mount: Record<string, Record<string, Flex>>): Flex {
  const kinds = Object.entries(mount).map(([kind, fields]) => {
    const entries = Object.entries(fields).map(([name, value]) => {
      return [name, SIZES.includes(name) && typeof value === 'string' ? parseBytes(value) : value];
    });
    return [kind, Object.fromEntries(entries)];
  });
  return Object.fromEntries(kinds);
}
