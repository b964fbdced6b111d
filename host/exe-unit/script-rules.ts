/**
 * Which commands the manifest allows: the spec's exe-unit.md, 10.3. `run` and `transfer` must match one rule at least;
 * the others pass.
 *
 * Expressions come from the requestor and can be made to take for ever. They run in a context of their own that V8
 * stops after a time: then the script is refused.
 */
import { createContext, Script } from 'node:vm';
import { RpcError } from '../gsb/types.ts';
import { toError, YavmError } from '../lib/errors.ts';
import { Decoder } from './decode.ts';
import type { Manifest } from './manifest.ts';
import type { Policy } from './policy.ts';
import { parseMatch, type RuleMatch } from './rule-match.ts';
import { translateRegex } from './rust-regex.ts';
import type { ScriptCommand } from './types.ts';

export interface ScriptRules {
  /** Texts, one of which a command must be equal to. */
  readonly equal: ReadonlySet<string>;
  /** JavaScript's expressions, one of which must be found in a command. */
  readonly patterns: readonly string[];
}

/** Milliseconds that all expressions together may take for one script. */
const MATCH_TIME = 500;
const MAX_PATTERN = 4096;

const decoder: Decoder = new Decoder('YAVM_E_MANIFEST');

/**
 * Null: everything is allowed.
 * @throws {YavmError} YAVM_E_MANIFEST for an expression that is none
 */
export function scriptRules(manifest: Manifest, policy?: Policy): ScriptRules | null {
  const off = policy?.disabled;
  if (off?.has('manifest_compliance') || off?.has('manifest_script_compliance')) return null;
  if (manifest.script === undefined) return null;
  const { commands, match } = manifest.script;
  const rules = commands.flatMap((text, index) => parseRule(text, match, `manifest script rule ${index}`));
  return {
    equal: new Set(rules.filter((rule) => rule.match === 'strict').map(({ text }) => text)),
    patterns: rules.filter((rule) => rule.match === 'regex').map(({ text, path }) => compile(text, path)),
  };
}

/** @throws {RpcError} badRequest for the first command that no rule allows */
export function checkScript(rules: ScriptRules, script: readonly ScriptCommand[]): void {
  const open = script
    .map(commandText)
    .filter((text): text is string => text !== null && !rules.equal.has(text));
  const refused = open.length === 0 ? null : firstWithoutMatch(rules.patterns, open);
  if (refused === null) return;
  throw new RpcError('badRequest', violation(`no matching manifest entry found for '${refused}'`));
}

const violation = (text: string) => `Manifest violation in ExeScript: script validation error: ${text}`;

/** What rules are compared with; null for a command that needs none. */
function commandText(command: ScriptCommand): string | null {
  if (command.kind === 'transfer') return `transfer ${command.from} ${command.to}`;
  if (command.kind !== 'run') return null;
  return ['run', command.entryPoint, ...command.args].join(' ');
}

interface Rule {
  text: string;
  match: RuleMatch;
  path: string;
}

/** A rule as text, or as JSON in a text; one that concerns other commands is no rule. */
function parseRule(text: string, match: Rule['match'], path: string): Rule[] {
  const json = jsonOf(text);
  if (json === undefined) return /^(run|transfer)/.test(text) ? [{ text, match, path }] : [];
  if (typeof json !== 'object' || json === null) return [];
  const { transfer, run } = decoder.fields(json, path);
  const rules: Rule[] = [];
  if (transfer !== undefined) {
    const { from, to, match: own } = decoder.fields(transfer, `${path}.transfer`);
    const [source, target] = [decoder.text(from, `${path}.from`), decoder.text(to, `${path}.to`)];
    rules.push({
      text: `transfer ${source} ${target}`,
      match: parseMatch(decoder, own, path) ?? match,
      path,
    });
  }
  if (run !== undefined) {
    const { args, match: own } = decoder.fields(run, `${path}.run`);
    // Each word of a list keeps its JSON form, quotes and all, as upstream has it.
    const words = Array.isArray(args) ? args.map((word) => JSON.stringify(word)).join(' ') : args;
    rules.push({
      text: `run ${decoder.text(words, `${path}.args`)}`,
      match: parseMatch(decoder, own, path) ?? match,
      path,
    });
  }
  return rules;
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function compile(text: string, path: string): string {
  if (text.length > MAX_PATTERN) decoder.refuse(path, `longer than ${MAX_PATTERN} characters`);
  try {
    const pattern = translateRegex(text);
    new RegExp(pattern, 'u');
    return pattern;
  } catch (cause) {
    throw new YavmError('YAVM_E_MANIFEST', `${path}: not an expression that we understand`, { cause });
  }
}

/** Runs where it can be stopped: `patterns` and `texts` come as JSON, the index of a text without match is returned. */
const MATCHER = new Script(`
  (() => {
    const expressions = JSON.parse(patterns).map((pattern) => new RegExp(pattern, 'u'));
    return JSON.parse(texts).findIndex((text) => !expressions.some((expression) => expression.test(text)));
  })()
`);

function firstWithoutMatch(patterns: readonly string[], texts: readonly string[]): string | null {
  if (patterns.length === 0) return texts[0] as string;
  const context = createContext(
    Object.assign(Object.create(null), {
      patterns: JSON.stringify(patterns),
      texts: JSON.stringify(texts),
    }),
    { codeGeneration: { strings: false, wasm: false } },
  );
  try {
    const index = MATCHER.runInContext(context, { timeout: MATCH_TIME }) as number;
    return index < 0 ? null : (texts[index] as string);
  } catch (error) {
    const problem = `the manifest's expressions take too long or fail: ${toError(error).message}`;
    throw new RpcError('badRequest', `${violation(problem)} (YAVM_E_MANIFEST)`);
  }
}
