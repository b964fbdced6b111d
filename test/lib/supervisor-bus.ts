/** A bus that is not there: keeps what is called and bound, and answers as the test says. */
import type { Binding, CallOptions, Flex, FlexMap, Gsb, LinkState } from '../../host/gsb/types.ts';
import type { YavmError } from '../../host/lib/errors.ts';

export interface FakeCall {
  address: string;
  body: FlexMap;
  options: CallOptions;
}

export class FakeBus implements Gsb {
  state: LinkState = 'down';
  readonly calls: FakeCall[] = [];
  readonly bindings = new Map<string, Binding>();
  closed = 0;
  /** What a call is answered with. */
  answer: (call: FakeCall) => Promise<Flex> | Flex = () => null;
  readonly #listeners = new Set<(state: LinkState, error?: YavmError) => void>();

  async bind(address: string, binding: Binding): Promise<void> {
    this.bindings.set(address, binding);
  }

  async unbind(address: string): Promise<void> {
    this.bindings.delete(address);
  }

  async call(address: string, body: Flex, options: CallOptions): Promise<Flex> {
    const call = { address, body: body as FlexMap, options };
    this.calls.push(call);
    return await this.answer(call);
  }

  async *stream(): AsyncGenerator<Flex> {}

  push(): boolean {
    return true;
  }

  onState(listener: (state: LinkState, error?: YavmError) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  async close(): Promise<void> {
    this.closed++;
  }

  // ---------------------------------------------------------------- for tests

  go(state: LinkState, error?: YavmError): void {
    this.state = state;
    for (const listener of this.#listeners) listener(state, error);
  }

  /** Last parts of the addresses called. */
  get messages(): string[] {
    return this.calls.map(({ address }) => address.slice(address.lastIndexOf('/') + 1));
  }

  get listeners(): number {
    return this.#listeners.size;
  }
}
