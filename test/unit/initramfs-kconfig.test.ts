import { gzipSync } from 'node:zlib';
import t from 'tap';
import { COMPRESSORS } from '../../host/image/squashfs.ts';
import {
  checkConfig,
  embeddedConfig,
  parseConfig,
  REQUIRED_BUILTINS,
  SQUASHFS_SYMBOLS,
  squashfsCompressions,
} from '../../initramfs/kconfig.ts';

const GOOD = REQUIRED_BUILTINS.map(({ symbol }) => `${symbol}=y`).join('\n');

t.test('a configuration is parsed; what is not set is absent', async (t) => {
  const config = parseConfig(
    '# CONFIG_A is not set\nCONFIG_B=y\nCONFIG_C=m\nCONFIG_D="a b"\nCONFIG_E=12\njunk\n',
  );
  t.strictSame(Object.fromEntries(config), { CONFIG_B: 'y', CONFIG_C: 'm', CONFIG_D: 'a b', CONFIG_E: '12' });
});

t.test('a kernel without something that must be built in is refused, all of it named', async (t) => {
  t.doesNotThrow(() => checkConfig(parseConfig(GOOD)));
  const bad = GOOD.replace('CONFIG_PVH=y', '# CONFIG_PVH is not set').replace(
    'CONFIG_RD_ZSTD=y',
    'CONFIG_RD_ZSTD=m',
  );
  t.throws(() => checkConfig(parseConfig(bad)), {
    code: 'YAVM_E_INITRAMFS_CONFIG',
    symbols: ['CONFIG_PVH', 'CONFIG_RD_ZSTD'],
    message: /CONFIG_PVH \(.+\), CONFIG_RD_ZSTD \(.+\)/,
  });
});

t.test('the configuration embedded in a kernel is found', async (t) => {
  const around = (bytes: Buffer) =>
    Buffer.concat([Buffer.from('code IKCFG_ST'), bytes, Buffer.from('IKCFG_ED code')]);
  t.equal(embeddedConfig(around(gzipSync('CONFIG_B=y\n')))?.get('CONFIG_B'), 'y');
  t.equal(embeddedConfig(around(Buffer.from('no gzip'))), null);
  t.equal(embeddedConfig(Buffer.from('code IKCFG_ST and no end')), null);
  t.equal(embeddedConfig(Buffer.from('code')), null);
});

t.test('the compressions of squashfs follow from the configuration', async (t) => {
  const config = parseConfig('CONFIG_SQUASHFS_LZO=y\nCONFIG_SQUASHFS_ZSTD=y\nCONFIG_SQUASHFS_XZ=m\n');
  t.strictSame(squashfsCompressions(config), ['lzo', 'zstd']);
});

t.test('builder and image check name the same symbols', async (t) => {
  const known = COMPRESSORS.filter(({ symbol }) => symbol !== null);
  t.strictSame(Object.fromEntries(known.map(({ name, symbol }) => [name, symbol])), { ...SQUASHFS_SYMBOLS });
});
