/** Sizes of what VMs boot; the build has judged them already. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileBudgets } from '../../build/budgets.ts';
import { parseManifest } from '../../initramfs/manifest.ts';
import { type Bench, OUT } from './context.ts';

export const sizes: Bench = {
  name: 'size',
  what: 'what the guest boots',
  async run() {
    const manifest = parseManifest(readFileSync(join(OUT, 'manifest.json'), 'utf8'));
    return fileBudgets(manifest.sizes).map(({ what, limit, measured }) => ({
      what,
      value: (measured ?? Number.NaN) / 1e6,
      unit: 'MB',
      limit: { atMost: limit / 1e6 },
    }));
  },
};
