/** The offer's template: what the provider publishes besides prices. Spec: exe-unit.md 3.2, runtime-vm.md 1.5. Pure. */
import { gpuProperties } from './gpu-offer.ts';
import type { Verdict } from './verdict.ts';

export interface OfferTemplate {
  /** Flat, dotted keys: the provider looks `golem.com.usage.vector` up as one. */
  properties: Record<string, string | boolean | number | string[]>;
  constraints: string;
}

/** What the exe-unit measures, in its own order; the agreement's counts later. */
export const USAGE_VECTOR = [
  'golem.usage.duration_sec',
  'golem.usage.cpu_sec',
  'golem.usage.gib',
  'golem.usage.storage_gib',
];

/** Of images and transfers. */
const TRANSFER_PROTOCOLS = ['http', 'https', 'gftp'];

export function offerTemplate({ accel, cpu, capabilities, gpu }: Verdict): OfferTemplate {
  return {
    properties: {
      'golem.com.usage.vector': USAGE_VECTOR,
      'golem.activity.caps.transfer.protocol': TRANSFER_PROTOCOLS,
      'golem.activity.caps.transfer.report-progress': true,
      'golem.activity.caps.deploy.report-progress': true,
      'golem.inf.cpu.vendor': cpu.vendor,
      'golem.inf.cpu.brand': cpu.brand,
      'golem.inf.cpu.model': cpu.model,
      'golem.inf.cpu.capabilities': cpu.capabilities,
      'golem.runtime.capabilities': capabilities,
      // Not of Golem's standard: `tcg` is an emulated CPU, several times slower. Requestors can filter by it.
      'golem.runtime.vm.acceleration': accel,
      ...(gpu ? gpuProperties(gpu) : {}),
    },
    constraints: '',
  };
}
