/** The states of a VM, and which may follow which: a table. */
import type { VmState } from './types.ts';

const NEXT: Readonly<Record<VmState, readonly VmState[]>> = {
  new: ['launching', 'ended'],
  launching: ['booting', 'ended'],
  booting: ['configuring', 'ended'],
  configuring: ['running', 'ended'],
  running: ['stopping', 'ended'],
  stopping: ['ended'],
  ended: [],
};

export class VmStateMachine {
  #state: VmState = 'new';
  readonly #onChange: (state: VmState) => void;

  constructor(onChange: (state: VmState) => void = () => {}) {
    this.#onChange = onChange;
  }

  get state(): VmState {
    return this.#state;
  }

  /** @throws {Error} for a step that the table does not have: a mistake in this program. */
  go(next: VmState): void {
    if (!NEXT[this.#state].includes(next)) throw new Error(`a VM cannot go from ${this.#state} to ${next}`);
    this.#state = next;
    this.#onChange(next);
  }
}
