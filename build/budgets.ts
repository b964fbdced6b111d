/** Sizes that must not be exceeded: over one of them, the build (or the bench, for what only a running VM shows) fails. */
export interface Budget {
  what: string;
  /** Bytes. */
  limit: number;
  /** Bytes; null: not measured here. */
  measured: number | null;
}

const MB = 1_000_000;

/** Limits, bytes (docs/architecture.md). `agentIdle` is checked in a booted VM: test/vm and the bench. */
export const LIMITS = {
  init: 1.2 * MB,
  initramfsBase: 0.7 * MB,
  agentIdle: 2 * MB,
  agentBusy: 8 * MB,
  program: 150 * MB,
  archive: 55 * MB,
} as const;

/** The budgets that files show, from the sizes in the initramfs' manifest: bytes of `/init`, and of the archive less kernel modules. */
export function fileBudgets(sizes: { init: number; base: number }): Budget[] {
  return [
    { what: '/init, stripped', limit: LIMITS.init, measured: sizes.init },
    { what: 'initramfs without modules, zstd', limit: LIMITS.initramfsBase, measured: sizes.base },
  ];
}

/** Budgets as lines of a table, each with its verdict. */
export function budgetTable(budgets: Budget[]): string[] {
  const width = Math.max(...budgets.map((budget) => budget.what.length));
  return budgets.map((budget) => {
    const measured = budget.measured === null ? 'not measured' : megabytes(budget.measured);
    return `${budget.what.padEnd(width)}  ${measured.padStart(12)}  limit ${megabytes(budget.limit)}  ${verdict(budget)}`;
  });
}

/** @throws {Error} with the whole table in its message when a budget is exceeded. */
export function assertBudgets(budgets: Budget[]): void {
  if (budgets.some((budget) => verdict(budget) === 'OVER')) {
    throw new Error(`over budget:\n  ${budgetTable(budgets).join('\n  ')}`);
  }
}

function verdict(budget: Budget): 'ok' | 'OVER' | '–' {
  if (budget.measured === null) return '–';
  return budget.measured > budget.limit ? 'OVER' : 'ok';
}

function megabytes(bytes: number): string {
  return `${(bytes / MB).toFixed(3)} MB`;
}
