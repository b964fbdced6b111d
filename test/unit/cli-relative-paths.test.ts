/** `run` hands its VM to a supervisor that works in another folder: what names files must not mean others there. */
import { resolve } from 'node:path';
import t from 'tap';
import { readGpuOptions } from '../../host/cli/gpu-option.ts';
import { withWholePaths } from '../../host/cli/stand-by.ts';
import { readAssets } from '../../host/cli/vm-options.ts';

t.test('options', (t) => {
  t.strictSame(readAssets('a/vmlinux', 'b/initramfs.cpio.zst', {}), {
    kernel: resolve('a/vmlinux'),
    initramfs: resolve('b/initramfs.cpio.zst'),
    manifest: resolve('b/manifest.json'),
  });
  t.strictSame(readGpuOptions({ driverLayer: 'driver.squashfs' }), {
    driverLayer: resolve('driver.squashfs'),
  });
  t.end();
});

t.test('environment', (t) => {
  t.strictSame(withWholePaths({ YA_VM_KERNEL_KEY: 'trusted.pem', YAVM_ASSETS: '/a', HOME: 'x', TERM: '' }), {
    YA_VM_KERNEL_KEY: resolve('trusted.pem'),
    YAVM_ASSETS: '/a',
    HOME: 'x',
    TERM: '',
  });
  t.strictSame(withWholePaths({ YA_VM_DRIVER_LAYER: '' }), { YA_VM_DRIVER_LAYER: '' });
  t.end();
});
