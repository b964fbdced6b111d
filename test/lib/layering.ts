/**
 * Who may import whom: docs/architecture.md's layering as a table. A folder's row lists other folders (or single
 * files) of ours and npm packages; its own files are always allowed. The row of the longest matching path counts.
 */

export interface Row {
  /** Folder, or file, that the row is about. */
  of: string;
  /** Folders and files of ours that it may import. */
  ours: string[];
  /** npm packages that it may import. `node:` stands for all of Node's own modules. */
  packages: string[];
}

/** The addon's interface and the way to it. */
const ADDON = 'native';
const GUEST_BASE = [ADDON, 'guest/lib', 'guest/errors.ts', 'guest/protocol'];

export const ROWS: Row[] = [
  { of: 'native', ours: [], packages: [] },
  // Loads the addon under Node; in the guest the engine has it.
  { of: 'native/load.ts', ours: [ADDON, 'host/lib'], packages: ['node:'] },

  // The guest: no Node, no package but the codec. init.ts ties its parts together.
  // `#cbor` is this folder's own cbor.ts, and in /init the addon's by way of guest/lib (package.json, "imports").
  { of: 'guest/protocol', ours: [], packages: ['cbor-x', '#cbor'] },
  { of: 'guest/errors.ts', ours: [ADDON, 'guest/protocol'], packages: [] },
  { of: 'guest/lib', ours: [ADDON, 'guest/errors.ts'], packages: [] },
  { of: 'guest/boot', ours: GUEST_BASE, packages: [] },
  { of: 'guest/process', ours: GUEST_BASE, packages: [] },
  { of: 'guest/net', ours: GUEST_BASE, packages: [] },
  { of: 'guest/gpu', ours: [...GUEST_BASE, 'guest/boot', 'guest/process/users.ts'], packages: [] },
  { of: 'guest/files', ours: GUEST_BASE, packages: [] },
  { of: 'guest/hook', ours: [...GUEST_BASE, 'guest/boot', 'guest/engine.ts'], packages: [] },
  {
    of: 'guest/agent',
    ours: [...GUEST_BASE, 'guest/boot', 'guest/process', 'guest/net', 'guest/gpu', 'guest/hook'],
    packages: [],
  },
  { of: 'guest', ours: ['guest', ADDON], packages: [] },

  // The host: from the general to the particular.
  // Data: the codes are types for all, the texts are for who explains them.
  { of: 'host/errors', ours: [], packages: [] },
  { of: 'host/lib', ours: ['host/errors/table.ts'], packages: ['node:', 'pino'] },
  { of: 'host/image', ours: ['host/lib'], packages: ['node:'] },
  { of: 'host/driver-layer', ours: ['host/lib', 'host/image', 'initramfs'], packages: ['node:'] },
  { of: 'host/network', ours: ['host/lib', 'host/gsb', 'guest/protocol', ADDON], packages: ['node:'] },
  // Started as QEMU is, by the same parts.
  {
    of: 'host/network/outbound/passt.ts',
    ours: [
      ...['host/network', 'host/lib', 'host/runtime/child.ts', 'host/runtime/descriptors.ts'],
      ...['host/runtime/privileges.ts', ADDON],
    ],
    packages: ['node:'],
  },
  {
    of: 'host/network/outbound/start-outbound.ts',
    ours: ['host/network', 'host/lib', 'host/runtime/user-network.ts', 'guest/protocol', ADDON],
    packages: ['node:'],
  },
  { of: 'host/gpu', ours: ['host/lib', 'host/runtime/privileges.ts', ADDON], packages: ['node:'] },
  {
    of: 'host/runtime',
    ours: ['host/lib', 'host/gpu', 'host/image', 'host/network', 'guest/protocol', ADDON],
    packages: ['node:'],
  },
  { of: 'host/boot-test', ours: ['host/lib', 'host/runtime', ADDON], packages: ['node:'] },
  { of: 'host/attach', ours: ['host/lib', 'host/runtime', 'guest/protocol'], packages: ['node:'] },
  { of: 'host/gsb', ours: ['host/lib'], packages: ['node:', 'protobufjs'] },
  { of: 'host/node', ours: ['host/lib', 'host/gsb'], packages: ['node:'] },
  { of: 'host/usage', ours: ['host/lib'], packages: ['node:'] },
  {
    of: 'host/transfer',
    ours: ['host/lib', 'host/gsb', 'host/image', ADDON],
    packages: ['node:', 'yauzl'],
  },
  {
    of: 'host/exe-unit',
    ours: [
      ...['host/lib', 'host/image', 'host/runtime', 'host/attach', 'host/gsb', 'host/transfer', 'host/usage'],
      ...['host/gpu', 'host/network', 'guest/protocol', ADDON],
    ],
    packages: ['node:'],
  },
  {
    of: 'host/runtime-api',
    ours: ['host/lib', 'host/image', 'host/runtime', 'host/network', 'guest/protocol', ADDON],
    packages: ['node:', 'protobufjs'],
  },
  {
    of: 'host/provider',
    ours: [
      'host/lib',
      'host/image',
      'host/runtime',
      'host/gpu',
      'host/driver-layer',
      'host/node',
      'host/gsb',
      'host/network',
      'guest/protocol',
      ADDON,
    ],
    packages: ['node:'],
  },
  {
    of: 'host/kernel-sets',
    ours: ['host/lib', 'host/transfer/lock.ts', 'initramfs', ADDON],
    packages: ['node:'],
  },
  {
    of: 'host/cli',
    ours: ['host', 'initramfs', 'guest/protocol', ADDON],
    packages: ['node:', 'commander', 'serialport'],
  },
  { of: 'initramfs', ours: ['host/lib', 'guest/hook/manifest.ts'], packages: ['node:', 'commander'] },
  // Where it is there.
  {
    of: 'initramfs/hook-script.ts',
    ours: ['initramfs', 'guest/hook/manifest.ts'],
    packages: ['node:', 'esbuild'],
  },

  // Tools and tests stand outside.
  {
    of: 'build',
    ours: [
      ...['build', 'initramfs', 'host/errors', 'host/image', 'host/lib', 'host/provider/descriptor.ts'],
      ADDON,
    ],
    packages: ['node:', 'esbuild', 'postject'],
  },
  // What of the host's scripts is compiled beforehand goes by its commands.
  { of: 'build/scripts', ours: ['build', 'host'], packages: ['node:', 'esbuild'] },
  // The packages: their manual pages and completions are made from the commands.
  { of: 'build/dist', ours: ['build', 'host'], packages: ['node:', 'esbuild', 'postject'] },
  {
    of: 'test',
    ours: ['guest', 'host', 'native', 'initramfs', 'build', 'test'],
    packages: [...['node:', 'tap', 'tap-parser', 'cbor-x', 'commander', 'esbuild'], 'picomatch'],
  },
];

/** Whether `path` is `folder` itself or lies in it. */
export function within(path: string, folder: string): boolean {
  return path === folder || path.startsWith(`${folder}/`);
}

/** The row for a file. @throws {Error} when no row covers it: a new folder needs a decision. */
export function rowOf(file: string): Row {
  const rows = ROWS.filter((row) => within(file, row.of)).sort((a, b) => b.of.length - a.of.length);
  if (!rows[0]) throw new Error(`${file} is in no row of the layering table (test/lib/layering.ts)`);
  return rows[0];
}

/**
 * Why `file` may not import `specifier`, or null when it may. `target` is the imported file from the repository's top
 * for a relative import, null for a package.
 */
export function objection(file: string, specifier: string, target: string | null): string | null {
  const row = rowOf(file);
  if (target === null) {
    const name = specifier.startsWith('node:') ? 'node:' : packageName(specifier);
    return row.packages.includes(name) ? null : `${row.of} may not import the package ${specifier}`;
  }
  if (within(target, row.of) || row.ours.some((folder) => within(target, folder))) return null;
  return `${row.of} may not import ${target}`;
}

function packageName(specifier: string): string {
  return specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');
}
