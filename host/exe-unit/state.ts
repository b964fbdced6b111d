/** The activity's states as a table (the spec's exe-unit.md, 4.3), and how refusals are worded there. */
import type { ScriptCommand, State, StatePair } from './types.ts';

export type CommandKind = ScriptCommand['kind'];

/**
 * Commands that need a state, and the state that they lead from each to; the others (`sign`, `terminate`) run in any. The
 * new state is reached whether the command succeeds or fails. A `transfer` before the start is ours: upstream refuses it.
 */
export const TRANSITIONS: Readonly<Partial<Record<CommandKind, Readonly<Partial<Record<State, State>>>>>> = {
  deploy: { Initialized: 'Deployed' },
  start: { Deployed: 'Ready' },
  run: { Ready: 'Ready' },
  transfer: { Deployed: 'Deployed', Ready: 'Ready' },
};

/** What upstream tells a requestor whose command came in the wrong state. */
const EXPECTATIONS: Readonly<Partial<Record<State, string>>> = {
  Initialized: 'Activity is initialized - deploy() command is expected now',
  Deployed: 'Activity is deployed - start() command is expected now',
  Ready: 'Cannot send command after a successful start()',
};

const STATE_ERROR = 'Local service error: State error: ';

/** Why a command of `kind` cannot begin in `pair`, as the requestor reads it; null when it can. */
export function refusal(pair: StatePair, kind: CommandKind): string | null {
  const [current, pending] = pair;
  if (current === 'Terminated' || pending === 'Terminated') return notAllowed('Terminated');
  const transition = TRANSITIONS[kind];
  if (transition === undefined) return null;
  if (pending !== null) return `${STATE_ERROR}Busy: ${pairText(pair)}`;
  if (transition[current] !== undefined) return null;
  const expectation = EXPECTATIONS[current];
  return expectation === undefined ? notAllowed(current) : STATE_ERROR + expectation;
}

/** What a command ends with when the state was changed under it: a `terminate` came. */
export function changedUnder(pair: StatePair, expected: StatePair): string {
  return `${STATE_ERROR}Unexpected state: ${pairText(pair)}, expected ${pairText(expected)}`;
}

export function samePair(a: StatePair, b: StatePair): boolean {
  return a[0] === b[0] && a[1] === b[1];
}

function notAllowed(state: State): string {
  return `${STATE_ERROR}This command is not allowed when activity is in the ${state} state`;
}

/** As Rust prints it: `StatePair(Ready, Some(Ready))`. */
function pairText([current, pending]: StatePair): string {
  return `StatePair(${current}, ${pending === null ? 'None' : `Some(${pending})`})`;
}
