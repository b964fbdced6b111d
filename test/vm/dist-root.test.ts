/**
 * A new Debian 12 with the package and what it depends on, nothing else: all that a provider does first, as an ordinary
 * user. The only test that sees what this machine has and our package does not ask for. Needs root and debootstrap.
 */
import { copyFileSync, existsSync, readdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { readDescriptors } from '../../host/provider/descriptor.ts';
import { type DebianRoot, debianRoot, noDebianRoot } from '../lib/debian-root.ts';
import { inNamespaces } from '../lib/namespaces.ts';
import { buildOlderPackage, DEBIAN_PACKAGE, notPackaged, OLDER_VERSION } from '../lib/packaged.ts';
import { ramFolders } from '../lib/ram-folders.ts';
import { DEMO_IMAGE } from '../lib/vm.ts';
import { startCli } from '../lib/ya-vm.ts';

const skip = notPackaged() || noDebianRoot();
const ACCEL = process.env.YAVM_TEST_ACCEL ?? 'tcg';
const INSTALL = ['apt-get', 'install', '-y', '-q', '--no-install-recommends'];

if (skip) t.test('the package in a bare Debian', { skip }, async () => {});
else if (inNamespaces(import.meta.url, ['--mount'])) {
  t.setTimeout(0);
  const newFolder = ramFolders(t, '3g');
  const root = debianRoot(newFolder());
  const run = (...words: string[]) => root.asUser(['ya-vm', ...words], { YA_VM_ACCEL: ACCEL });

  t.test('apt installs it with exactly what it depends on', async (t) => {
    root.asRoot('apt-get', 'update', '-q');
    copyFileSync(DEBIAN_PACKAGE, join(root.path, 'root/ya-vm.deb'));
    root.asRoot(...INSTALL, '/root/ya-vm.deb');
    t.same(root.asRoot('dpkg', '--audit'), '', 'dpkg has nothing to say');
    t.equal(root.asRoot('apt-mark', 'showmanual').includes('ya-vm'), true);
    const names = installed(root);
    for (const name of ['qemu-system-x86', 'e2fsprogs']) t.ok(names.includes(name), name);
    for (const name of ['passt', 'squashfs-tools', 'nodejs', 'git', 'zstd'])
      t.notOk(names.includes(name), `no ${name}`);
    t.ok(existsSync(join(root.path, 'usr/share/man/man1/ya-vm-run.1.gz')));
  });

  t.test('the first commands', async (t) => {
    const version = run('version', '--json');
    t.match(JSON.parse(version.stdout), { 'ya-vm': /^\d/, qemu: /^\d/ }, version.stderr);
    const doctor = run('doctor');
    t.equal(doctor.code, 0, doctor.stdout + doctor.stderr);
    const tested = run('self-test', '--accel', ACCEL);
    t.equal(tested.code, 0, tested.stdout + tested.stderr);
    t.comment(tested.stdout);
  });

  t.test('an image runs', async (t) => {
    const demo = run('run', '--accel', ACCEL, '--', 'sh', '-c', 'echo "in it"; exit 7');
    t.match(demo, { code: 7, stdout: 'in it\n', stderr: '' });
    copyFileSync(DEMO_IMAGE, join(root.path, root.home, 'task.gvmi'));
    const image = run('run', '--accel', ACCEL, '--image', 'task.gvmi', '--', 'echo', 'an image of ours');
    t.match(image, { code: 0, stdout: 'an image of ours\n', stderr: '' });
  });

  t.test('a provider finds it, and what it finds starts', async (t) => {
    const folder = join(root.path, 'usr/lib/yagna/plugins');
    t.same(readdirSync(folder), ['ya-vm.json']);
    const { descriptors, problem } = readDescriptors(join(folder, 'ya-vm.json'));
    t.equal(problem, null);
    t.match(descriptors, [{ name: 'vm', supervisor: '/usr/bin/ya-vm' }]);
    const supervisor = descriptors[0]?.supervisor as string;
    // As ya-provider does: its test, then the offer.
    for (const words of [['test'], ['offer-template']]) {
      const { code, stdout, stderr } = root.asUser([supervisor, ...words], { YA_VM_ACCEL: ACCEL });
      t.equal(code, 0, stderr);
      if (words[0] === 'offer-template') {
        t.match(JSON.parse(stdout).properties, { 'golem.runtime.vm.acceleration': ACCEL });
      }
    }
    const checked = run('provider', 'check', '--system');
    t.equal(checked.code, 0, checked.stdout + checked.stderr);
    t.comment(checked.stdout);
  });

  t.test('what goes wrong has its name', async (t) => {
    const words = ['ya-vm', 'run', '--accel', ACCEL, '--', 'true'];
    const readOnly = root.asUser(words, { XDG_CACHE_HOME: '/usr/share' });
    t.match(readOnly, { code: 125, stderr: /YAVM_E_DIST_FOLDER.*XDG_CACHE_HOME/s });
    const image = run('image', 'build', '/etc');
    t.not(image.code, 0);
    t.match(image.stderr, /squashfs-tools/, 'a recommended package that is not there is named');
  });

  t.test('dpkg upgrades it under a VM of the older one', async (t) => {
    renameSync(buildOlderPackage(newFolder()), join(root.path, 'root/older.deb'));
    root.asRoot('dpkg', '--install', '--force-downgrade', '/root/older.deb');
    t.match(JSON.parse(run('version', '--json').stdout), { 'ya-vm': OLDER_VERSION });
    const { through, env } = root.user;
    // The words after `sh -c` are the launcher's path, and what it is given.
    const inside = [...through, 'sh', '-c', 'shift; exec "$0" "$@"', '/usr/bin/ya-vm'];
    const words = ['run', '-i', '--accel', ACCEL, '--', 'sh', '-c', 'echo ready; cat'];
    const older = startCli(t, words, { env, through: inside, input: 'open' });
    await older.says('ready');
    root.asRoot('dpkg', '--install', '/root/ya-vm.deb');
    const newer = run('run', '--accel', ACCEL, '--', 'echo', 'newer');
    t.match(newer, { code: 0, stdout: 'newer\n', stderr: '' });
    t.equal(JSON.parse(run('ps', '--json').stdout).length, 1);
    older.child.stdin?.end('its last words');
    t.match(await older.ended(), { code: 0, stderr: '' });
    t.equal(older.stdout.toString(), 'ready\nits last words');
    t.same(JSON.parse(run('ps', '--json').stdout), []);
  });

  t.test('nothing is left of it', async (t) => {
    t.same(
      readdirSync(join(root.path, 'tmp')).filter((name) => name !== 'ya-vm-1000'),
      [],
    );
    root.asRoot('dpkg', '--purge', 'ya-vm');
    for (const path of [
      'usr/bin/ya-vm',
      'usr/lib/yagna',
      'usr/share/doc/ya-vm',
      'usr/share/fish/vendor_completions.d/ya-vm.fish',
    ]) {
      t.notOk(existsSync(join(root.path, path)), path);
    }
  });
}

function installed(root: DebianRoot): string[] {
  // biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg's own format
  return root.asRoot('dpkg-query', '-W', '-f', '${Package}\n').trim().split('\n');
}
