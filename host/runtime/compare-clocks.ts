/** Which uptime of the guest belongs to which time of the host, so that its clock can be set however long that takes. */

/** Times that the guest is asked at most: one question may have to wait, on this host or in the guest. */
const QUESTIONS = 6;
/** An answer that took no longer than this is good enough, milliseconds: the error is at most half of it. */
const QUICK = 10;

export interface ComparedClocks {
  /** Milliseconds since the epoch. */
  now: number;
  /** The guest's at that time, milliseconds. */
  uptime: number;
}

/**
 * Asks until an answer is quick, and takes the quickest: as in NTP (RFC 5905), the guest is taken to have looked at its clock
 * half way.
 * @param ping the guest's uptime, milliseconds
 * @param now for tests: milliseconds since the epoch
 */
export async function compareClocks(
  ping: () => Promise<number>,
  now: () => number = Date.now,
): Promise<ComparedClocks> {
  let best: (ComparedClocks & { took: number }) | null = null;
  for (let question = 0; question < QUESTIONS; question++) {
    const asked = now();
    const uptime = await ping();
    const answered = now();
    const took = answered - asked;
    if (best === null || took < best.took) best = { now: (asked + answered) / 2, uptime, took };
    if (took <= QUICK) break;
  }
  const { now: time, uptime } = best as ComparedClocks;
  return { now: time, uptime };
}
