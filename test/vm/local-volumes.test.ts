/** `ya-vm run --volume` and `--tmpfs`: what its user sees of them, and whose files they are. */
import { spawnSync } from 'node:child_process';
import { chownSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { makeImage } from '../lib/images.ts';
import { DEMO_IMAGE, privateEnvironment } from '../lib/vm.ts';
import { ACCEL, LAUNCHER, runCli } from '../lib/ya-vm.ts';

t.setTimeout(0);
const root = process.getuid?.() === 0;

t.test('folders both ways, memory, and volumes of the image', async (t) => {
  const env = privateEnvironment(t);
  const folder = env.XDG_RUNTIME_DIR as string;
  for (const name of ['in', 'out']) mkdirSync(join(folder, name));
  writeFileSync(join(folder, 'in/file'), 'of the host');
  const image = join(folder, 'volumes.gvmi');
  makeImage(image, {
    files: { 'var/db/seed': 'of the image' },
    config: { Volumes: { '/var/db': {}, '/made': {} } },
  });
  const script = [
    'cat /in/file; echo " $(cat /var/db/seed)"; echo more >>/var/db/seed; touch /made/x /out/made /tmp/x/y',
    'mkdir /out/folder; chmod 700 /out/folder',
    "grep -E ' (/in|/out|/tmp/x|/made) ' /proc/mounts | cut -d' ' -f 2,3,4 | cut -d, -f 1-4",
    'df -k /tmp/x | tail -n 1 | while read -r a size b; do echo "$size"; done',
    '(echo x >/in/file) 2>&1',
    'cp /bin/busybox /tmp/x/sh; (/tmp/x/sh true) 2>&1; exit 0',
  ];
  const volumes = ['--volume', `${folder}/in:/in:ro`, '-v', `${folder}/out:/out`];
  const words = ['run', ...ACCEL, '--image', image, '--image', DEMO_IMAGE, ...volumes];
  const memory = ['--tmpfs', '/tmp/x:size=8M,mode=0700,noexec'];
  const { code, stdout, stderr } = await runCli(
    t,
    [...words, ...memory, '--', 'sh', '-c', script.join('\n')],
    { env },
  );
  t.equal(code, 0, stderr);
  const lines = stdout.toString().trimEnd().split('\n');
  t.equal(lines.shift(), 'of the host of the image');
  t.strictSame(lines.splice(0, 3).sort(), [
    '/in virtiofs ro,nodev,relatime',
    '/out virtiofs rw,nodev,relatime',
    '/tmp/x tmpfs rw,nodev,noexec,relatime',
  ]);
  t.equal(lines.shift(), '8192');
  t.match(lines.shift(), /Read-only file system/);
  t.match(lines.shift(), /Permission denied/);
  t.strictSame(lines, []);
  t.equal(readFileSync(join(folder, 'in/file'), 'utf8'), 'of the host');
  t.match(statSync(join(folder, 'out/made')), { uid: process.getuid?.() });
  t.equal(statSync(join(folder, 'out/folder')).mode & 0o777, 0o700);
});

/** Need not have a name here. */
const USER = 1000;
const setpriv = ['setpriv', `--reuid=${USER}`, `--regid=${USER}`, '--clear-groups'];
const become = (...words: string[]) =>
  spawnSync(setpriv[0] as string, [...setpriv.slice(1), ...words]).status;
const namespace = ['unshare', '--user', '--map-root-user', '--mount', 'mount', '-t', 'tmpfs', 'none', '/mnt'];
const unable =
  (!root && 'needs root, to become another user') ||
  (become('test', '-x', LAUNCHER) !== 0 && 'this checkout lies where other users cannot reach it') ||
  (become(...namespace) !== 0 && 'ordinary users may make no namespaces here');

t.test(
  "an ordinary user's folder: the VM's root is that user, and nobody else can be",
  { skip: unable },
  async (t) => {
    const home = mkdtempSync('/tmp/yavm-user-');
    t.teardown(() => rmSync(home, { recursive: true }));
    const share = join(home, 'share');
    for (const each of [home, share, join(home, 'run'), join(home, 'disks')]) {
      mkdirSync(each, { recursive: true });
      chownSync(each, USER, USER);
    }
    for (const name of ['mine', 'others']) writeFileSync(join(share, name), name, { mode: 0o600 });
    chownSync(join(share, 'mine'), USER, USER);
    const env = {
      PATH: '/usr/bin:/bin',
      HOME: home,
      XDG_RUNTIME_DIR: join(home, 'run'),
      YAVM_DISK_DIR: join(home, 'disks'),
    };
    const script = `cd /share; stat -c '%n %u' *; cat mine; echo; cat others 2>&1; echo x >made; chown 5 made 2>&1; rm mine`;
    const { code, stdout, stderr } = await runCli(
      t,
      ['run', ...ACCEL, '-v', `${share}:/share`, '--', 'sh', '-c', script],
      {
        env,
        through: setpriv,
      },
    );
    t.equal(code, 0, stderr);
    t.match(stdout.toString(), /^mine 0\nothers 65534\nmine\ncat: .*Permission denied\nchown: .*\n$/);
    t.match(statSync(join(share, 'made')), { uid: USER, gid: USER });
    t.throws(() => statSync(join(share, 'mine')), { code: 'ENOENT' });
  },
);
