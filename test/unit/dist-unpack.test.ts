/** What the single program unpacks: races, tampering, a full disk, a home that cannot be written. */
import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { zstdCompressSync } from 'node:zlib';
import t from 'tap';
import { indexOf } from '../../build/dist/payload.ts';
import { type Packed, type PackedFile, unpackedFolder } from '../../host/lib/unpack.ts';
import { Random } from '../lib/random.ts';
import { sha256 } from '../lib/vm.ts';

const top = fs.mkdtempSync(join(tmpdir(), 'yavm-dist-'));
t.teardown(() => fs.rmSync(top, { recursive: true, force: true }));
let bases = 0;
const newBase = () => join(top, String(bases++), 'dist');

const KERNEL = Buffer.from(new Random(7).bytes(3_000_000));
const CONTENTS: Record<string, Buffer> = { vmlinux: KERNEL, 'manifest.json': Buffer.from('{}') };

/** A program with {@link CONTENTS}; `reads` lists what was unpacked. */
function program(contents = CONTENTS): Packed & { reads: string[] } {
  const files = Object.entries(contents).map(([name, bytes]) => ({
    ...{ name, size: bytes.length, sha256: sha256(bytes), zstd: name === 'vmlinux' },
  }));
  const reads: string[] = [];
  return {
    index: indexOf('1.2.3', files),
    reads,
    read(name) {
      reads.push(name);
      const bytes = contents[name] as Buffer;
      return name === 'vmlinux' ? zstdCompressSync(bytes) : bytes;
    },
  };
}

const isWhole = (folder: string) =>
  Object.entries(CONTENTS).every(([name, bytes]) => fs.readFileSync(join(folder, name)).equals(bytes));

t.test('the first use unpacks, the next ones do not', async (t) => {
  const [base, packed] = [newBase(), program()];
  const folder = unpackedFolder(base, packed);
  t.ok(isWhole(folder));
  t.same(fs.readdirSync(folder).sort(), ['manifest.json', 'verified.json', 'vmlinux']);
  t.same(fs.readdirSync(base), [packed.index.id], 'and no lock is left');
  t.equal(fs.statSync(folder).mode & 0o777, 0o700);
  t.equal(fs.statSync(join(folder, 'vmlinux')).mode & 0o777, 0o644, 'for a QEMU that is nobody');
  packed.reads.length = 0;
  t.equal(unpackedFolder(base, packed), folder);
  t.same(packed.reads, []);
  fs.rmSync(join(folder, 'verified.json'));
  unpackedFolder(base, packed);
  t.same(packed.reads, [], 'without the record they are hashed, and not unpacked');
});

t.test('what was tampered with is unpacked anew', async (t) => {
  const tampering: Record<string, (path: string) => void> = {
    'other bytes of the same size': (path) => fs.writeFileSync(path, Buffer.alloc(KERNEL.length)),
    'one bit, times set back'(path) {
      const { atime, mtime } = fs.statSync(path);
      const fd = fs.openSync(path, 'r+');
      fs.writeSync(fd, Buffer.from([(KERNEL[99] as number) ^ 1]), 0, 1, 99);
      fs.closeSync(fd);
      fs.utimesSync(path, atime, mtime);
    },
    'cut short': (path) => fs.truncateSync(path, 5),
    'a link to another file'(path) {
      fs.renameSync(path, `${path}.away`);
      fs.symlinkSync(`${path}.away`, path);
    },
    'a folder'(path) {
      fs.rmSync(path);
      fs.mkdirSync(path);
      fs.writeFileSync(join(path, 'x'), '');
    },
    gone: (path) => fs.rmSync(path),
  };
  for (const [what, tamper] of Object.entries(tampering)) {
    const [base, packed] = [newBase(), program()];
    const folder = unpackedFolder(base, packed);
    const running = fs.openSync(join(folder, 'manifest.json'), 'r');
    tamper(join(folder, 'vmlinux'));
    packed.reads.length = 0;
    unpackedFolder(base, packed);
    t.ok(isWhole(folder) && fs.lstatSync(join(folder, 'vmlinux')).isFile(), what);
    t.same(packed.reads, ['vmlinux'], 'and nothing else');
    fs.closeSync(running);
  }
});

t.test('a program among the files can be run, and is again when it could not', async (t) => {
  const [base, packed] = [newBase(), program()];
  packed.index.files[1] = { ...packed.index.files[1], executable: true } as PackedFile;
  const path = join(unpackedFolder(base, packed), 'manifest.json');
  t.equal(fs.statSync(path).mode & 0o777, 0o755);
  fs.chmodSync(path, 0o644);
  unpackedFolder(base, packed);
  t.equal(fs.statSync(path).mode & 0o777, 0o755);
  t.equal(packed.reads.filter((name) => name === 'manifest.json').length, 2);
});

t.test('a folder that others may enter is closed; a link in its place is refused', async (t) => {
  const [base, packed] = [newBase(), program()];
  const folder = unpackedFolder(base, packed);
  fs.chmodSync(folder, 0o777);
  unpackedFolder(base, packed);
  t.equal(fs.statSync(folder).mode & 0o777, 0o700);
  fs.renameSync(folder, `${folder}x`);
  fs.symlinkSync(`${folder}x`, folder);
  t.throws(() => unpackedFolder(base, packed), { code: 'YAVM_E_DIST_FOLDER', hint: /XDG_CACHE_HOME/ });
});

t.test('a program that is damaged', async (t) => {
  const wrong: [string, Packed['read']][] = [
    ['other bytes', () => zstdCompressSync(Buffer.alloc(KERNEL.length))],
    ['no zstd', () => KERNEL],
    ['more bytes than stated', () => zstdCompressSync(Buffer.concat([KERNEL, KERNEL]))],
  ];
  for (const [what, read] of wrong) {
    const base = newBase();
    const { index } = program();
    t.throws(() => unpackedFolder(base, { index, read }), { code: 'YAVM_E_DIST_DAMAGED' }, what);
    t.same(fs.readdirSync(join(base, index.id)), [], 'nothing wrong is left');
    t.same(fs.readdirSync(base), [index.id], 'nor the lock');
  }
});

t.test('a place that cannot be written', async (t) => {
  const [base, packed] = [newBase(), program()];
  fs.mkdirSync(join(base, '..'), { recursive: true });
  fs.writeFileSync(base, 'a file');
  t.throws(() => unpackedFolder(base, packed), { code: 'YAVM_E_DIST_FOLDER', hint: /XDG_CACHE_HOME/ });
  t.throws(() => unpackedFolder('/proc/ya-vm', packed), { code: 'YAVM_E_DIST_FOLDER' });
});

t.test('locks of processes that died are passed over', async (t) => {
  for (const text of ['4194305 1', `${process.pid} 1`]) {
    const [base, packed] = [newBase(), program()];
    fs.mkdirSync(base, { recursive: true });
    fs.writeFileSync(join(base, `${packed.index.id}.lock`), text);
    t.ok(isWhole(unpackedFolder(base, packed)), text);
    t.same(fs.readdirSync(base), [packed.index.id]);
  }
});

t.test('versions: each has its folder; one that nobody used for 30 days goes', async (t) => {
  const base = newBase();
  const old = unpackedFolder(base, program({ ...CONTENTS, 'manifest.json': Buffer.from('old') }));
  const recent = unpackedFolder(base, program({ ...CONTENTS, 'manifest.json': Buffer.from('recent') }));
  const ago = new Date(Date.now() - 31 * 24 * 3600 * 1000);
  fs.utimesSync(join(old, 'verified.json'), ago, ago);
  fs.mkdirSync(join(base, 'what is not ours'));
  const now = unpackedFolder(base, program());
  t.notOk(fs.existsSync(old));
  t.ok(fs.existsSync(recent) && isWhole(now) && fs.existsSync(join(base, 'what is not ours')));
});

t.test('many processes at once', async (t) => {
  const base = newBase();
  const { index } = program();
  const setup = join(top, 'setup.json');
  const module = new URL('../../host/lib/unpack.ts', import.meta.url).href;
  const packed = Object.fromEntries(index.files.map(({ name }) => [name, join(top, name)]));
  for (const { name } of index.files) fs.writeFileSync(join(top, name), program().read(name));
  fs.writeFileSync(setup, JSON.stringify({ base, index, packed }));
  const script = `
    import { readFileSync } from 'node:fs';
    import { unpackedFolder } from '${module}';
    const { base, index, packed } = JSON.parse(readFileSync('${setup}'));
    let reads = 0;
    const read = (name) => { reads++; return readFileSync(packed[name]); };
    const folder = unpackedFolder(base, { index, read });
    if (!readFileSync(folder + '/vmlinux').equals(readFileSync('${join(top, 'kernel')}'))) throw new Error('wrong');
    console.log(reads);`;
  fs.writeFileSync(join(top, 'kernel'), KERNEL);
  const results = await Promise.all(
    Array.from({ length: 6 }, async () => {
      const flags = ['--disable-warning=ExperimentalWarning', '--input-type=module', '-e', script];
      const child = spawn(process.execPath, flags, { stdio: ['ignore', 'pipe', 'inherit'] });
      let text = '';
      child.stdout.on('data', (chunk) => {
        text += chunk;
      });
      const code = await new Promise((resolve) => child.once('close', resolve));
      return { code, reads: Number(text) };
    }),
  );
  t.ok(results.every(({ code }) => code === 0));
  t.equal(
    results.reduce((sum, { reads }) => sum + reads, 0),
    index.files.length,
    'one of them did the work',
  );
  t.same(fs.readdirSync(base), [index.id]);
});
