/** What an activity costs, by the provider's linear model. */
import { YavmError } from '../lib/errors.ts';

/**
 * The provider's linear formula: each counter times its coefficient, and the last coefficient, which stands alone, is
 * the price of the start. `golem.com.pricing.model.linear.coeffs` of an agreement has one more element than the vector.
 * @throws {YavmError} YAVM_E_NODE_COST when their lengths do not fit: the provider could not compute a cost either
 */
export function costOf(vector: readonly number[], coefficients: readonly number[]): number {
  if (coefficients.length !== vector.length + 1) {
    throw new YavmError(
      'YAVM_E_NODE_COST',
      `${coefficients.length} coefficients do not fit ${vector.length} counters: it takes one more`,
    );
  }
  const start = coefficients[vector.length] as number;
  return vector.reduce((sum, value, index) => sum + value * (coefficients[index] as number), start);
}
