/**
 * The flow of the frame before, for one that has the same ends: the same MACs, addresses and ports have the same answers, and
 * most frames of a transfer follow one of their own connection.
 */
import { ETH, IP_PROTOCOL, TCP_FLAG } from '../frame/layout.ts';
import { type Flow, IDLE } from './flows.ts';
import type { Packet } from './packet.ts';

export class LastEnds {
  #flow: Flow | null = null;
  #version = 0;
  /** MACs, addresses and ports, as words. */
  readonly #words = new Int32Array(12);

  /** The connection of a TCP segment, if it is the last one's, is open and has nothing to be looked at. */
  flowOf(packet: Packet, now: number): Flow | null {
    const flow = this.#flow;
    if (flow === null || packet.protocol !== IP_PROTOCOL.tcp || packet.version !== this.#version) return null;
    // The shortest of all idle times: then nothing is over.
    if (flow.list === null || flow.reset || now - flow.seen >= IDLE.reset) return null;
    if ((packet.flags & TCP_FLAG.syn) !== 0) return null;
    const { view, start, source, transport } = packet;
    const words = this.#words;
    if (view.getInt32(transport) !== words[3]) return null;
    if (view.getInt32(start) !== words[0] || view.getInt32(start + 4) !== words[1]) return null;
    if (view.getInt32(start + 8) !== words[2]) return null;
    const count = packet.version === 4 ? 2 : 8;
    for (let index = 0; index < count; index++) {
      if (view.getInt32(source + 4 * index) !== words[4 + index]) return null;
    }
    return flow;
  }

  /** Of a TCP segment that has passed. */
  remember(packet: Packet, flow: Flow): void {
    if (flow.stream !== null) {
      this.#flow = null;
      return;
    }
    const { view, start, source, transport } = packet;
    const words = this.#words;
    this.#flow = flow;
    this.#version = packet.version;
    for (let index = 0; index < 3; index++) words[index] = view.getInt32(start + ETH.destination + 4 * index);
    words[3] = view.getInt32(transport);
    const count = packet.version === 4 ? 2 : 8;
    for (let index = 0; index < count; index++) words[4 + index] = view.getInt32(source + 4 * index);
  }
}
