/** A usage vector as a person reads it. */

/** `usage duration_sec 2.4 · cpu_sec 2.2`. */
export function usageLine(usage: readonly (readonly [name: string, value: number])[]): string {
  const values = usage.map(
    ([name, value]) => `${name.replace('golem.usage.', '')} ${Number(value.toFixed(3))}`,
  );
  return `usage ${values.join(' · ')}`;
}
