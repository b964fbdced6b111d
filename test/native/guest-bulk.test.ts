/** The files role with what few archives hold: attributes, holes, names that are no UTF-8; and large files into a pipe. */
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { O_RDONLY, O_RDWR } from '../../guest/lib/constants.ts';
import { loadNative } from '../../native/load.ts';
import { ROLE_HOSTS, runRole } from '../lib/files-role.ts';
import { inNamespaces } from '../lib/namespaces.ts';
import { ramFolders } from '../lib/ram-folders.ts';
import { Random } from '../lib/random.ts';
import { bytes } from '../lib/scale.ts';
import { makeTar, readTar, systemTar } from '../lib/tar.ts';

inNamespaces(import.meta.url);
process.umask(0);
// The runner has a deadline for the whole file.
t.setTimeout(0);

const native = loadNative();
const random = new Random();
t.comment(`seed ${random.seed}`);
const MIB = 1024 * 1024;

const folder = ramFolders(t, '1g');

/** Calls with the open file. */
function withFile<T>(path: string, flags: number, use: (fd: number) => T): T {
  const fd = native.open(path, flags, 0);
  try {
    return use(fd);
  } finally {
    native.close(fd);
  }
}

const attributesOf = (path: string) =>
  withFile(path, O_RDONLY, (fd) =>
    (native.listXattrs(fd) ?? [])
      .sort()
      .map((name) => [name, Buffer.from(native.getXattr(fd, name)).toString('hex')]),
  );

/** Whether the file system here has such an attribute; those of tmpfs depend on its kernel. */
function takes(name: string): boolean {
  const path = join(folder(), 'f');
  writeFileSync(path, '');
  try {
    withFile(path, O_RDWR, (fd) => native.setXattr(fd, name, CAPABILITY));
    return true;
  } catch {
    return false;
  }
}

/** cap_net_raw=ep, as the kernel stores it (linux/capability.h: VFS_CAP_REVISION_2). */
const CAPABILITY = Buffer.from('0100000200200000000000000000000000000000', 'hex');
const USER = takes('user.x');
const CAPABILITIES = takes('security.capability');

for (const host of Object.keys(ROLE_HOSTS)) {
  t.test(`${host}: names that are no UTF-8 go out and come in as they are`, (t) => {
    const root = folder();
    const names = [
      [0xff],
      [0xc3, 0x28],
      [0xed, 0xa0, 0x80],
      [...Buffer.from('mixed ä '), 0xe4, 0x0a],
      [...Buffer.from('long '), ...new Array(120).fill(0xfc)],
    ].map((raw) => Buffer.from(raw));
    for (const name of names) {
      const directory = Buffer.concat([Buffer.from(`${root}/tree/`), name]);
      mkdirSync(directory, { recursive: true });
      writeFileSync(Buffer.concat([directory, Buffer.from('/'), name]), name);
    }
    execFileSync('ln', ['-s', names[0]!.toString('latin1'), join(root, 'tree/plain')]);
    // As latin1, which keeps every byte; no path has two slashes.
    const list = (of: string) =>
      execFileSync('find', [of, '-printf', '%P\\0%y\\0%l//'], { encoding: 'latin1' }).split('//').sort();
    const { output, error } = runRole(host, root, ['read', 'tar', '/tree']);
    t.equal(error, undefined);
    const theirs = folder();
    systemTar(['--extract', '-C', theirs, '-f', '-'], output);
    t.strictSame(list(join(theirs, 'tree')), list(join(root, 'tree')), 'the system’s tar finds them');
    for (const format of ['ours', 'gnu', 'posix']) {
      const archive =
        format === 'ours'
          ? output
          : systemTar(['--create', `--format=${format}`, '-C', root, '-f', '-', 'tree']);
      const target = folder();
      t.equal(runRole(host, target, ['write', 'tar', '/'], archive).error, undefined, format);
      t.strictSame(list(join(target, 'tree')), list(join(root, 'tree')), format);
    }
    t.end();
  });

  t.test(`${host}: attributes go out and come in`, { skip: !USER && 'no user attributes here' }, (t) => {
    const root = folder();
    mkdirSync(join(root, 'tree/dir'), { recursive: true });
    writeFileSync(join(root, 'tree/file'), 'x');
    writeFileSync(join(root, 'tree/none'), 'x');
    const set = (path: string, name: string, value: Uint8Array) =>
      withFile(join(root, path), O_RDONLY, (fd) => native.setXattr(fd, name, value));
    set('tree/file', 'user.text', Buffer.from('some\0bytes\n='));
    set('tree/file', 'user.empty', new Uint8Array(0));
    set('tree/file', 'user.large', random.bytes(2000));
    if (CAPABILITIES) set('tree/file', 'security.capability', CAPABILITY);
    set('tree/file', 'trusted.not', Buffer.from('x'));
    set('tree/dir', 'user.of.directory', Buffer.from('y'));
    const out = runRole(host, root, ['read', 'tar', '/tree']);
    t.match(out, { status: 0, leftOut: 0 });
    const carried = (path: string) => attributesOf(path).filter(([name]) => !name?.startsWith('trusted.'));
    const check = (target: string, what: string) => {
      for (const path of ['tree/file', 'tree/dir', 'tree/none'])
        t.strictSame(carried(join(target, path)), carried(join(root, path)), `${what}: ${path}`);
    };
    const theirs = folder();
    systemTar(['--extract', '--xattrs', '--xattrs-include=*', '-C', theirs, '-f', '-'], out.output);
    check(theirs, 'the system’s tar');
    const target = folder();
    t.match(runRole(host, target, ['write', 'tar', '/'], out.output), { status: 0, leftOut: 0 });
    check(target, 'ours');
    const archive = systemTar(['--create', '--xattrs', '--xattrs-include=*', '-C', root, '-f', '-', 'tree']);
    const from = folder();
    t.match(
      runRole(host, from, ['write', 'tar', '/'], archive),
      { status: 0, leftOut: 1 },
      'trusted.* is left out',
    );
    check(from, 'of the system’s tar');
    t.end();
  });

  t.test(`${host}: attributes that cannot be set are left out, told, or an error`, (t) => {
    const root = folder();
    const write = (...attributes: [string, Uint8Array][]) =>
      runRole(
        host,
        root,
        ['write', 'tar', '/'],
        makeTar([{ name: 'f', content: Buffer.from('x'), attributes }]),
      );
    const value = Buffer.from('x');
    const foreign = ['security.selinux', 'trusted.overlay.opaque', 'system.posix_acl_access', 'user', ''];
    t.match(write(...foreign.map((name): [string, Uint8Array] => [name, value])), { status: 0, leftOut: 5 });
    t.strictSame(attributesOf(join(root, 'f')), []);
    if (USER) {
      t.match(write(['user.', value]).error, { code: 'file-failed', errno: 'EINVAL', message: /'f'/ });
      t.match(write([`user.${'n'.repeat(300)}`, value]).error, { code: 'file-failed', errno: 'ERANGE' });
      const archive = Buffer.from(makeTar([{ name: 'f', attributes: [['user.a_b', value]] }]));
      archive[archive.indexOf('a_b') + 1] = 0;
      t.match(runRole(host, root, ['write', 'tar', '/'], archive).error, { code: 'file-failed' }, 'a NUL');
      t.strictSame(readdirSync(root), [], 'the file is gone then');
    }
    t.end();
  });

  t.test(`${host}: more attributes than an archive holds are left out and counted`, { skip: !USER }, (t) => {
    const root = folder();
    writeFileSync(join(root, 'f'), '');
    let set = 0;
    withFile(join(root, 'f'), O_RDONLY, (fd) => {
      try {
        for (; set < 200; set++) native.setXattr(fd, `user.${set}`, random.bytes(1000));
      } catch {
        // As many as there is room for.
      }
    });
    const { output, leftOut, status } = runRole(host, root, ['read', 'tar', '/f']);
    t.equal(status, 0);
    const [entry] = readTar(output);
    t.equal((entry?.attributes.length ?? 0) + (leftOut ?? 0), set);
    if (set > 100) t.ok((leftOut ?? 0) > 0);
    const target = folder();
    t.equal(runRole(host, target, ['write', 'tar', '/'], output).error, undefined, 'it comes in again');
    t.end();
  });

  t.test(`${host}: zeros become holes, and a file of holes goes out as it reads`, (t) => {
    const root = folder();
    const size = 9 * MIB + 123;
    const parts: [offset: number, content: Uint8Array][] = [
      [0, random.bytes(5000)],
      [3 * MIB + 77, random.bytes(200_000)],
    ];
    const fd = openSync(join(root, 'sparse'), 'w');
    for (const [offset, content] of parts) writeSync(fd, content, 0, content.length, offset);
    ftruncateSync(fd, size);
    closeSync(fd);
    const whole = readFileSync(join(root, 'sparse'));
    const blocks = (path: string) => statSync(path).blocks * 512;
    t.ok(blocks(join(root, 'sparse')) < MIB);

    const { output } = runRole(host, root, ['read', 'file', '/sparse']);
    t.ok(same(output, whole));
    t.match(runRole(host, root, ['write', 'file', '/back'], output), { status: 0, bytes: size });
    const { output: tar } = runRole(host, root, ['read', 'tar', '/sparse']);
    t.match(runRole(host, root, ['write', 'tar', '/in'], tar), { status: 0, entries: 1 });
    for (const name of ['back', 'in/sparse']) {
      t.ok(same(readFileSync(join(root, name)), whole), name);
      t.ok(blocks(join(root, name)) < MIB, `${name} takes ${blocks(join(root, name))} bytes`);
    }
    t.match(runRole(host, root, ['write', 'file', '/zeros'], Buffer.alloc(3 * MIB)), { status: 0 });
    t.match(statSync(join(root, 'zeros')), { size: 3 * MIB, blocks: 0 });
    t.end();
  });

  t.test(`${host}: large files go into a pipe page by page, and are what they were`, (t) => {
    const root = folder();
    mkdirSync(join(root, 'tree'));
    const sizes = [0, 1, 128 * 1024 - 1, 128 * 1024, 128 * 1024 + 1, 3 * MIB + 5, bytes(200 * MIB) / 2];
    for (const size of sizes) writeFileSync(join(root, 'tree', String(size)), random.bytes(size));
    for (const size of sizes) {
      const { output, ...reply } = runRole(
        host,
        root,
        ['read', 'file', `/tree/${size}`],
        undefined,
        false,
        true,
      );
      t.match(reply, { bytes: size, entries: 1 });
      t.ok(same(output, readFileSync(join(root, 'tree', String(size)))), `${size} bytes`);
    }
    const { output, ...reply } = runRole(host, root, ['read', 'tar', '/tree'], undefined, false, true);
    t.match(reply, { bytes: output.byteLength, entries: sizes.length + 1 });
    for (const { name, content } of readTar(output).slice(1))
      t.ok(same(content, readFileSync(join(root, name))), name);
    // A file of the kernel's has no size, and one that is cut meanwhile is filled up.
    const proc = runRole(host, '/', ['read', 'file', '/proc/filesystems'], undefined, false, true);
    t.match(String(proc.output), /tmpfs/);
    t.end();
  });

  t.test(`${host}: the bytes around a file in an archive do not matter to it`, (t) => {
    const root = folder();
    const items = Array.from({ length: 40 }, (_, index) => ({
      name: `f${index}`,
      content: random.bytes(random.pick([0, 1, 512, 5000, 65_536, 65_537, 131_072, 300_001, 600_000])),
    }));
    t.match(runRole(host, root, ['write', 'tar', '/'], makeTar(items)), { status: 0, entries: 40 });
    for (const { name, content } of items) t.ok(same(readFileSync(join(root, name)), content), name);
    t.end();
  });
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}
