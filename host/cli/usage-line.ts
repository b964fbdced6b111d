/** A usage vector as a person reads it. */

/** `usage duration_sec 2.4 · cpu_sec 2.2 · gib 0.1 · shared_gib 0.05`: `gib` is the VM's own memory, `shared_gib` is not in it. */
export function usageLine(usage: readonly (readonly [name: string, value: number])[]): string {
  const values = usage.map(
    ([name, value]) => `${name.replace(/^(golem|ya-vm)\.usage\./, '')} ${Number(value.toFixed(3))}`,
  );
  return `usage ${values.join(' · ')}`;
}
