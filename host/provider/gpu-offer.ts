/**
 * What an offer says about graphics cards, in all the spellings that requestors look for (the spec's runtime-vm.md, 9.2): GAP-35's
 * flat names for the first card, golem-gpu-info's groups `dN` of equal cards, each below both prefixes. Pure.
 */
import { CLOCKS, type GpuCard, type GpuFacts } from './gpu-facts.ts';

export type GpuProperties = Record<string, string | boolean | number>;

const PREFIXES = ['golem.inf.gpu', 'golem.!exp.gap-35.v1.inf.gpu'];

/** Of the runtime: as of 0.5.1, and before. */
export const GPU_CAPABILITIES = ['gpu', '!exp:gpu'];

const GIB = 1024 ** 3;

/** Nothing for no card. */
export function gpuProperties(facts: GpuFacts): GpuProperties {
  const [first] = facts.cards;
  if (first === undefined) return {};
  const names: GpuProperties = {};
  flat(names, first, facts);
  if (facts.driverVersion !== undefined) names['cuda.driver.version'] = facts.driverVersion;
  for (const [index, { card, quantity }] of groupsOf(facts.cards).entries()) {
    group(names, `d${index}`, card, quantity);
  }
  const entries = PREFIXES.flatMap((prefix) =>
    Object.entries(names).map(([name, value]) => [`${prefix}.${name}`, value] as const),
  );
  return Object.fromEntries(entries);
}

/** GAP-35: memory is a whole number of GiB. */
function flat(
  names: GpuProperties,
  { model, memory, bandwidth, clocks, cuda }: GpuCard,
  facts: GpuFacts,
): void {
  names.model = model;
  if (cuda !== undefined) {
    names['cuda.enabled'] = true;
    if (facts.cudaVersion !== undefined) names['cuda.version'] = facts.cudaVersion;
    if (cuda.cores !== undefined) names['cuda.cores'] = cuda.cores;
    if (cuda.capability !== undefined) names['cuda.compute-capability'] = cuda.capability;
  }
  for (const clock of CLOCKS) {
    const value = clocks?.[clock];
    if (value !== undefined) names[`clocks.${clock}.mhz`] = value;
  }
  if (memory !== undefined) names['memory.total.gib'] = Math.round(memory / GIB);
  if (bandwidth !== undefined) names['memory.bandwidth.gib'] = Math.round(bandwidth / GIB);
}

/** golem-gpu-info: other words, and fractions of a GiB. */
function group(
  names: GpuProperties,
  name: string,
  { model, memory, bandwidth, clocks, cuda }: GpuCard,
  quantity: number,
): void {
  names[`${name}.model`] = model;
  names[`${name}.quantity`] = quantity;
  if (cuda !== undefined) {
    names[`${name}.cuda.enabled`] = true;
    if (cuda.cores !== undefined) names[`${name}.cuda.cores`] = cuda.cores;
    if (cuda.capability !== undefined) names[`${name}.cuda.caps`] = cuda.capability;
  }
  for (const clock of CLOCKS) {
    const value = clocks?.[clock];
    if (value !== undefined) names[`${name}.clock.${clock}.mhz`] = value;
  }
  if (memory !== undefined) names[`${name}.memory.total.gib`] = memory / GIB;
  if (bandwidth !== undefined) names[`${name}.memory.bandwidth.gib`] = bandwidth / GIB;
}

/** Equal in everything that the offer says. */
function groupsOf(cards: readonly GpuCard[]): { card: GpuCard; quantity: number }[] {
  const groups = new Map<string, { card: GpuCard; quantity: number }>();
  for (const card of cards) {
    const { model, memory, bandwidth, clocks, cuda } = card;
    const speeds = CLOCKS.map((clock) => clocks?.[clock]);
    const key = JSON.stringify([model, memory, bandwidth, speeds, cuda?.capability, cuda?.cores]);
    const known = groups.get(key);
    if (known) known.quantity++;
    else groups.set(key, { card, quantity: 1 });
  }
  return [...groups.values()];
}
