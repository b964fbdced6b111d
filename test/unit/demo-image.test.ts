import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { buildDemoImage, DEMO_CONFIG, demoTree, pseudoLine } from '../../build/demo-image.ts';
import { verifyImage } from '../../host/image/verify.ts';

t.test('the demo image', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'ya-vm-test-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const output = join(folder, 'demo.gvmi');
  const made = await buildDemoImage({ output, mtime: 1_000_000_000 });
  /** Lines of unsquashfs: mode, owner, time, path. */
  const listing = execFileSync('unsquashfs', ['-lln', output], {
    env: { ...process.env, TZ: 'UTC' },
  }).toString();

  t.test('is a .gvmi with a configuration', async (t) => {
    t.match(await verifyImage(output), {
      kind: 'gvmi',
      compressor: 'lzo',
      created: 1_000_000_000,
      size: made.size,
      config: { env: [...DEMO_CONFIG.Env], cmd: ['/bin/sh'], workingDir: '/', volumes: [] },
    });
  });

  t.test('has busybox, its programs, users and the folders of a root', async (t) => {
    const has = (line: RegExp) => t.match(listing, new RegExp(`^${line.source}$`, 'm'));
    has(/drwxr-xr-x 0\/0 .* squashfs-root/);
    has(/-rwxr-xr-x 0\/0 .* squashfs-root\/bin\/busybox/);
    for (const path of ['bin/sh', 'bin/dd', 'usr/bin/sha256sum', 'usr/bin/id'])
      has(new RegExp(`lrwxrwxrwx 0/0 .* squashfs-root/${path} -> /bin/busybox`));
    for (const path of ['proc', 'sys', 'dev', 'etc', 'run'])
      has(new RegExp(`drwxr-xr-x 0/0 .* squashfs-root/${path}`));
    has(/drwxrwxrwt 0\/0 .* squashfs-root\/tmp/);
    has(/drwx------ 0\/0 .* squashfs-root\/(root)/);
    has(/drwxr-xr-x 1000\/1000 .* squashfs-root\/home\/user/);
    const passwd = execFileSync('unsquashfs', ['-cat', output, 'etc/passwd']).toString();
    t.match(passwd, /^root:x:0:0:root:\/root:\/bin\/sh$/m);
    t.match(passwd, /^user:x:1000:1000:user:\/home\/user:\/bin\/sh$/m);
    t.notMatch(listing, /squashfs-root\/(linuxrc|sbin\/init) /);
  });

  t.test('is the same whenever it is built', async (t) => {
    const times = new Set(
      listing
        .trim()
        .split('\n')
        .map((line) => /\d{4}-\d\d-\d\d \d\d:\d\d/.exec(line)?.[0]),
    );
    t.strictSame([...times], ['2001-09-09 01:46']);
    const again = join(folder, 'again.gvmi');
    t.strictSame(await buildDemoImage({ output: again, mtime: 1_000_000_000 }), made);
    t.ok(readFileSync(again).equals(readFileSync(output)));
  });
});

t.test('a tree becomes pseudo-file definitions, parents first', async (t) => {
  const tree = demoTree(Buffer.from('busybox'), ['bin/ls', 'linuxrc', 'sbin/init', 'bin/busybox', 'bin/ash']);
  const paths = tree.map(({ path }) => path);
  for (const [index, path] of paths.entries()) {
    const parent = path.slice(0, path.lastIndexOf('/')) || '/';
    t.ok(path === '/' || paths.indexOf(parent) < index, path);
  }
  t.equal(new Set(paths).size, paths.length, 'no path twice');
  const line = (path: string) => pseudoLine(tree[paths.indexOf(path)]!, 7);
  t.equal(line('/bin/ls'), '/bin/ls s 777 0 0 /bin/busybox');
  t.equal(line('/bin/busybox'), '/bin/busybox f 755 0 0 cat 7');
  t.equal(line('/home/user'), '/home/user d 755 1000 1000');
  t.equal(line('/tmp'), '/tmp d 1777 0 0');
  t.notOk(paths.includes('/linuxrc'));
});
