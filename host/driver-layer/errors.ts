/** A layer that cannot be built, or that is none. */
import { YavmError, type YavmErrorOptions } from '../lib/errors.ts';

export class DriverLayerError extends YavmError {
  override name = 'DriverLayerError';
  constructor(message: string, options?: YavmErrorOptions) {
    super('YAVM_E_DRIVER_LAYER', message, options);
  }
}
