/** How the host is bundled, for the launcher and for the single program alike. */
import { resolve } from 'node:path';

/** With code splitting: what a command imports when it is asked for stays a file of its own. For esbuild's `build`. */
export const HOST_BUNDLE = {
  outExtension: { '.js': '.mjs' },
  bundle: true,
  splitting: true,
  platform: 'node',
  format: 'esm',
  target: 'node24',
  // The Node entry of cbor-x would load a native decoder for the guest's bytes, when it finds one.
  alias: { 'cbor-x': resolve('node_modules/cbor-x/index.js') },
  legalComments: 'none',
  logLevel: 'silent',
} as const;
