/** serialport's addon is a file like our own: the package would look for it in node_modules. */
import { resolve } from 'node:path';
import type { Plugin } from 'esbuild';

export const serialportAddon: Plugin = {
  name: 'serialport-addon',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^node-gyp-build$/ }, () => ({ path: 'addon', namespace: 'serialport' }));
    onLoad({ filter: /.*/, namespace: 'serialport' }, () => ({
      resolveDir: resolve('.'),
      contents: `
        const { createRequire } = require('node:module');
        const { unpackedAssets } = require('./host/lib/paths.ts');
        module.exports = () => createRequire('/')(unpackedAssets() + '/serialport.node');`,
    }));
  },
};
