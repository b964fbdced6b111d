/** From the slots of a specification to cards that QEMU can have: checked, claimed, described. */
import { closeSync } from 'node:fs';
import { YavmError } from '../lib/errors.ts';
import { windowFor } from './bars.ts';
import { type Card, findCards } from './cards.ts';
import { checkCard, errorOf } from './checks.ts';
import { claimCard } from './claim.ts';
import { type Facing, hostFacts } from './host-facts.ts';
import { functionOf, parseSlot } from './slot.ts';

/** A card for a VM. */
export interface PassedCard {
  /** Of its functions, the lowest number first. */
  functions: { slot: string; number: number }[];
  /** Bytes of BARs that lie above 4 GiB; 0: none do. */
  window: number;
  /** Of the IOMMU group. */
  group: number;
  /** Our open lock. */
  lock: number;
}

/** The card that has this function. @throws {YavmError} YAVM_E_USAGE, YAVM_E_GPU_MISSING */
export function cardAt(cards: readonly Card[], text: string): Card {
  const slot = parseSlot(text);
  const found = cards.find(({ functions }) => functions.some((each) => each.slot === slot));
  if (found) return found;
  throw new YavmError('YAVM_E_GPU_MISSING', `there is no graphics card at ${slot}`, {
    hint: "'ya-vm gpu list' shows those that there are.",
  });
}

/** One card each, though two of its functions were named. @throws {YavmError} YAVM_E_USAGE, YAVM_E_GPU_MISSING */
export function cardsAt(cards: readonly Card[], slots: readonly string[]): Card[] {
  return [...new Set(slots.map((slot) => cardAt(cards, slot)))];
}

/**
 * Checks and claims. The locks are open afterwards, or none is.
 * @throws {YavmError} YAVM_E_GPU_…, of the first finding
 */
export function passCards(slots: readonly string[], memoryMiB: number, facing: Facing): PassedCard[] {
  const cards = cardsAt(findCards(facing.roots), slots);
  const together = cards.flatMap(({ functions }) => functions.map(({ slot }) => slot));
  const passed: PassedCard[] = [];
  try {
    for (const card of cards) {
      const facts = hostFacts(card, facing);
      const [finding] = checkCard(card, facts, memoryMiB, together);
      if (finding) throw errorOf(finding);
      const lock = claimCard(facing.roots, card.slot, facing.locker);
      if (lock === null) {
        // Between the look and the claim.
        const [busy] = checkCard(card, { ...facts, busy: true }, memoryMiB, together);
        if (busy) throw errorOf(busy);
        continue;
      }
      passed.push({ ...describeCard(card), lock });
    }
    return passed;
  } catch (error) {
    for (const { lock } of passed) closeSync(lock);
    throw error;
  }
}

/** A card without a group was refused before. */
export function describeCard({ functions, group }: Card): Omit<PassedCard, 'lock'> {
  return {
    functions: functions.map(({ slot }) => ({ slot, number: functionOf(slot) })),
    window: windowFor(functions.flatMap(({ bars }) => bars)),
    group: group ?? 0,
  };
}
