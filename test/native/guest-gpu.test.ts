/** A driver layer's files in a real root: the bind mount, links, the image's own ldconfig; and real device nodes. */
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import t from 'tap';
import { GPU_PLACES, type GpuContext } from '../../guest/gpu/context.ts';
import { giveLibraries } from '../../guest/gpu/libraries.ts';
import { makeNodes } from '../../guest/gpu/make-nodes.ts';
import { runInRoot } from '../../guest/gpu/tool.ts';
import { O_DIRECTORY, O_RDONLY } from '../../guest/lib/constants.ts';
import { loadNative } from '../../native/load.ts';
import { inNamespaces } from '../lib/namespaces.ts';

inNamespaces(import.meta.url);
// As the kernel starts PID 1.
process.umask(0o022);

const native = loadNative();
const LDCONFIG = '/sbin/ldconfig';
const LIBRARY = '/lib/x86_64-linux-gnu/libm.so.6';
const FOLDER = 'lib/x86_64-linux-gnu';
const top = mkdtempSync(join(tmpdir(), 'yavm-guest-gpu-'));
t.teardown(() => rmSync(top, { recursive: true, force: true }));

function put(path: string, content: string | { copy: string }): void {
  mkdirSync(dirname(path), { recursive: true });
  if (typeof content === 'string') writeFileSync(path, content);
  else copyFileSync(content.copy, path);
}

/** A root, and a layer beside it. */
function prepare(name: string): { root: string; layer: string; context: GpuContext; warnings: string[] } {
  const [root, layer] = [join(top, name, 'root'), join(top, name, 'layer')];
  mkdirSync(root, { recursive: true });
  put(join(layer, 'usr', FOLDER, 'libm.so.6'), existsSync(LIBRARY) ? { copy: LIBRARY } : 'library');
  put(join(layer, 'usr/bin/nvidia-smi'), 'of the layer');
  put(join(layer, 'usr/share/OpenCL/vendors/nvidia.icd'), 'libnvidia-opencl.so.1');
  const warnings: string[] = [];
  const rootFd = native.open(root, O_RDONLY | O_DIRECTORY, 0);
  t.teardown(() => native.close(rootFd));
  const modules = { load: () => {}, configure: () => {}, loadAlias: () => [], addSource: () => {} };
  const warn = (text: string) => void warnings.push(text);
  return { root, layer, warnings, context: { native, rootFd, places: GPU_PLACES, modules, warn } };
}

const layerOf = (path: string) => ({ path, driverVersion: '550.163.01', kernelRelease: 'x' });

t.test('an image with ldconfig', { skip: !existsSync(LDCONFIG) && `no ${LDCONFIG}` }, async (t) => {
  const { root, layer, context, warnings } = prepare('ldconfig');
  put(join(root, 'sbin/ldconfig'), { copy: LDCONFIG });
  put(join(root, 'etc/ld.so.conf'), 'include /etc/ld.so.conf.d/*.conf\n');
  put(join(root, 'usr/bin/nvidia-smi'), "the image's own");
  // An upper disk may come back: the second start finds what the first has made.
  for (const _start of [1, 2]) {
    await giveLibraries(context, layerOf(layer));
    t.strictSame(warnings, []);
    const cache = readFileSync(join(root, 'etc/ld.so.cache'), 'latin1');
    t.ok(cache.includes(`/opt/ya-vm/driver/${FOLDER}/libm.so.6`));
    t.equal(readlinkSync(join(root, 'usr/bin/nvidia-smi')), '/opt/ya-vm/driver/bin/nvidia-smi');
    t.equal(readFileSync(join(root, 'opt/ya-vm/driver/bin/nvidia-smi'), 'utf8'), 'of the layer');
    t.ok(existsSync(join(root, 'opt/ya-vm/driver/share/OpenCL/vendors/nvidia.icd')));
    native.umount(join(root, 'opt/ya-vm/driver'), 0);
  }
});

t.test('an image without, with a planted link: nothing outside the root is changed', async (t) => {
  const { root, layer, context } = prepare('plain');
  const outside = join(top, 'outside');
  mkdirSync(outside);
  symlinkSync(outside, join(root, 'usr'));
  mkdirSync(join(root, outside), { recursive: true });
  await giveLibraries(context, layerOf(layer));
  t.equal(
    readlinkSync(join(root, outside, 'lib/libm.so.6')),
    `/opt/ya-vm/driver/${FOLDER}/libm.so.6`,
    'the link was followed inside',
  );
  t.notOk(existsSync(join(outside, 'lib')));
  native.umount(join(root, 'opt/ya-vm/driver'), 0);
});

t.test('a program that is none, and one that does not end', async (t) => {
  const { root, context } = prepare('tool');
  put(join(root, 'none'), 'text');
  t.match(await runInRoot(context, ['none'], 60_000), /cannot be started \(E/);
  t.match(await runInRoot(context, ['missing'], 60_000), /cannot be started \(ENOENT\)/);
  const busybox = '/bin/busybox';
  if (!existsSync(busybox)) return;
  put(join(root, 'sleep'), { copy: busybox });
  t.match(await runInRoot(context, ['sleep', '1000'], 100), /did not end within 100 ms/);
  put(join(root, 'false'), { copy: busybox });
  t.equal(await runInRoot(context, ['false'], 60_000), 'ended with 1');
});

t.test('nodes: numbers and modes, whatever the umask; a second time too', (t) => {
  const dev = join(top, 'dev');
  mkdirSync(dev);
  const node = { major: 1, minor: 3, uid: 0, gid: 0 };
  const nodes = [
    { ...node, path: 'nvidia0', mode: 0o666 },
    { ...node, path: 'nvidia-caps/nvidia-cap1', mode: 0o444 },
  ];
  try {
    makeNodes(native, dev, nodes);
  } catch (error) {
    // A user's own namespace has no right to make device nodes.
    t.match(error, { code: 'gpu-failed', errno: 'EPERM' });
    return t.end();
  }
  makeNodes(native, dev, nodes);
  for (const { path, mode } of nodes) {
    const found = statSync(join(dev, path));
    t.strictSame([found.mode & 0o7777, found.rdev], [mode, (1 << 8) | 3], path);
  }
  t.end();
});
