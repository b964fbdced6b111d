/** Much at once through `container:` transfers: one large file, very many small ones, many transfers, and no room for them. */
import { createHash } from 'node:crypto';
import t, { type Test } from 'tap';
import type { Attribute } from '../../guest/files/attributes.ts';
import type { Vm } from '../../host/runtime/index.ts';
import { loadNative } from '../../native/load.ts';
import { Random } from '../lib/random.ts';
import { eventually } from '../lib/running.ts';
import { bytes, soak } from '../lib/scale.ts';
import { type Item, makeTar, readTar } from '../lib/tar.ts';
import { Collector, sha256, shell, startTestVm } from '../lib/vm.ts';

// The runner has a deadline for the whole file.
t.setTimeout(0);

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;
const FAILED = 'YAVM_E_GUEST_FILE_FAILED';
/** Transfers that the guest takes at a time. */
const MOST_TRANSFERS = 32;
/** For commands that look at all of it, in a soak. */
const SLOW = { deadline: 900_000 };
const FILES = soak ? 100_000 : 2000;
const random = new Random();
const native = loadNative();
const block = random.bytes(MIB + 7);

t.test('a VM', async (t) => {
  t.comment(`seed ${random.seed}`);
  // A disk has an inode for every 16 KiB.
  const disk = Math.max(2 * bytes(GIB), 2 * FILES * 16 * 1024) + 512 * MIB;
  const vm = await startTestVm(t, { root: { disk } });
  await t.test('one large file', (t) => large(t, vm));
  await t.test('very many small ones', (t) => many(t, vm));
  await t.test('what few archives hold', (t) => rare(t, vm));
  await t.test('many transfers', (t) => bound(t, vm));
  await t.test('given up', (t) => givenUp(t, vm));
  await t.test('no room', (t) => full(t, vm));
  t.equal(await shell(vm, 'find / -xdev -name ".yavm-*"'), '', 'no temporary file is left');
  await t.test('a VM that ends', (t) => ends(t, vm));
});

t.test('a VM that is killed under its transfers', async (t) => {
  const vm = await startTestVm(t);
  await vm.writeFiles('/dev/shm/large', content(8 * MIB));
  const work = transfers(vm);
  await work.begun;
  await vm.kill();
  for (const one of work.all) await t.rejects(one, { code: 'YAVM_E_VM_STOPPED' });
  await t.rejects(vm.writeFiles('/later', [block]), { code: 'YAVM_E_VM_STOPPED' }, 'and later ones');
});

/** `size` bytes, in pieces that are no whole blocks. */
function* content(size: number): Generator<Buffer> {
  for (let left = size; left > 0; left -= block.length) yield Buffer.from(block.subarray(0, left));
}

function hashOf(pieces: Iterable<Uint8Array>): string {
  const hash = createHash('sha256');
  for (const piece of pieces) hash.update(piece);
  return hash.digest('hex');
}

async function large(t: Test, vm: Vm): Promise<void> {
  const size = bytes(GIB);
  const expected = hashOf(content(size));
  t.strictSame(await vm.writeFiles('/new/large', content(size), { mode: 0o640, uid: 7, gid: 8 }), {
    bytes: size,
    entries: 1,
  });
  t.equal(await shell(vm, 'stat -c "%s %a %u:%g" /new/large'), `${size} 640 7:8\n`);
  t.equal(await shell(vm, 'sha256sum </new/large', SLOW), `${expected}  -\n`, 'in');
  for (const cached of [true, false]) {
    if (!cached) await shell(vm, 'echo 3 >/proc/sys/vm/drop_caches 2>/dev/null; true');
    const back = new Collector();
    t.match(await vm.readFiles('/new/large', back.sink), { bytes: size });
    t.match(back.collected(), { bytes: size, sha256: expected }, `out, cached: ${cached}`);
  }
  // As an archive, where it begins somewhere in the middle of a block.
  const archive: Buffer[] = [];
  await vm.readFiles('/new', (piece) => void archive.push(Buffer.from(piece)), { format: 'tar' });
  t.match(await vm.writeFiles('/again', archive, { format: 'tar' }), { entries: 2 });
  t.equal(await shell(vm, 'sha256sum </again/new/large', SLOW), `${expected}  -\n`, 'by a tar');
  await shell(vm, 'rm -r /again /new');
}

/** A tar of many small files, a piece at a time. */
function* manyFiles(files: number): Generator<Uint8Array> {
  for (let at = 0; at < files; at += 100) {
    const items = Array.from({ length: Math.min(100, files - at) }, (_, index): Item => {
      const number = at + index;
      return {
        name: `d${at / 100}/file ${number}`,
        content: Buffer.from(`${number}\n`),
        uid: number % 7,
        mode: 0o600,
      };
    });
    yield makeTar(items, at + 100 >= files);
  }
}

async function many(t: Test, vm: Vm): Promise<void> {
  const files = FILES;
  t.match(await vm.writeFiles('/many', manyFiles(files), { format: 'tar' }), { entries: files });
  t.equal(await shell(vm, 'find /many -type f | wc -l', SLOW), `${files}\n`);
  const numbers = Array.from({ length: files }, (_, number) => `${number}\n`);
  t.equal(
    await shell(vm, 'find /many -type f -exec cat {} + | sort -n | sha256sum', SLOW),
    `${sha256(Buffer.from(numbers.join('')))}  -\n`,
    'each has its own content',
  );
  const back: Buffer[] = [];
  const reply = await vm.readFiles('/many/.', (piece) => void back.push(Buffer.from(piece)), {
    format: 'tar',
  });
  const entries = readTar(Buffer.concat(back));
  t.equal(reply.entries, entries.length);
  const found = entries.filter(({ type }) => type === 'file');
  t.equal(found.length, files);
  t.ok(
    found.every(({ name, content, uid, mode }) => {
      const number = Number(name.split(' ')[1]);
      return Buffer.from(content).toString() === `${number}\n` && uid === number % 7 && mode === 0o600;
    }),
    'and comes back with all that it has',
  );
  await shell(vm, 'rm -r /many', SLOW);
}

async function rare(t: Test, vm: Vm): Promise<void> {
  // cap_net_raw=ep (linux/capability.h, VFS_CAP_REVISION_2).
  const capability = Buffer.from('0100000200200000000000000000000000000000', 'hex');
  const attributes: Attribute[] = [
    ['security.capability', capability],
    ['user.one', random.bytes(100)],
    ['user.empty', new Uint8Array(0)],
  ];
  const raw = native.decodeName(Uint8Array.from([0x66, 0xff, 0xe4, 0x0a]));
  const holes = new Uint8Array(8 * MIB);
  holes.set(random.bytes(5000), 4 * MIB);
  const items: Item[] = [
    { name: 'rare/', type: 'directory', mode: 0o755, attributes: attributes.slice(1) },
    { name: `rare/${raw}`, content: Buffer.from('raw') },
    { name: 'rare/capable', content: block, mode: 0o4755, uid: 5, attributes },
    { name: 'rare/foreign', content: Buffer.from('x'), attributes: [['security.selinux', Buffer.from('x')]] },
    { name: 'rare/holes', content: holes },
    { name: 'rare/raw link', type: 'symlink', linkName: raw },
  ];
  t.match(await vm.writeFiles('/', [makeTar(items)], { format: 'tar' }), { entries: 6, leftOut: 1 });
  t.equal(await shell(vm, 'cat "/rare/raw link"'), 'raw', 'a name that is no UTF-8');
  t.equal(
    await shell(vm, 'cd /rare; for name in f[!o]*; do printf %s "$name"; done | sha256sum'),
    `${sha256(Buffer.from('f\xff\xe4\n', 'latin1'))}  -\n`,
  );
  const used = Number((await shell(vm, 'du -k /rare/holes')).split('\t')[0]);
  t.ok(used <= 72, `a file of 8 MiB with one block takes ${used} KiB`);
  t.equal(await shell(vm, 'sha256sum </rare/holes'), `${sha256(holes)}  -\n`);
  const back: Buffer[] = [];
  t.match(await vm.readFiles('/rare', (piece) => void back.push(Buffer.from(piece)), { format: 'tar' }), {
    leftOut: 0,
  });
  const entries = readTar(Buffer.concat(back));
  for (const item of items.filter(({ name }) => name !== 'rare/foreign')) {
    const entry = entries.find(({ name }) => name === item.name);
    const sorted = (of: readonly Attribute[] = []) =>
      of.map(([name, value]) => `${name}=${Buffer.from(value).toString('hex')}`).sort();
    t.strictSame(sorted(entry?.attributes), sorted(item.attributes), `${item.name}: attributes`);
    t.equal(
      sha256(entry?.content ?? new Uint8Array(1)),
      sha256(item.content ?? new Uint8Array(0)),
      item.name,
    );
  }
  // Where a file system has no such thing, nothing fails.
  await vm.mount({ kind: 'ram', path: '/memory', size: 16 * MIB });
  t.match(await vm.writeFiles('/memory', [makeTar(items)], { format: 'tar' }), { entries: 6 });
  t.equal(await shell(vm, 'sha256sum </memory/rare/holes'), `${sha256(holes)}  -\n`);
}

async function bound(t: Test, vm: Vm): Promise<void> {
  const stop = new AbortController();
  async function* stalled() {
    yield block;
    await new Promise(() => {});
  }
  const held = Array.from({ length: MOST_TRANSFERS }, (_, index) =>
    vm.writeFiles(`/held/${index}`, stalled(), { signal: stop.signal }),
  );
  const failed = held.map((one) => t.rejects(one, /enough/));
  await eventually('all of them run', async () => {
    return (await shell(vm, 'ps -o args | grep -c "role files writ[e]"; true')) === `${MOST_TRANSFERS}\n`;
  });
  await t.rejects(vm.writeFiles('/one/more', [block]), {
    code: FAILED,
    errno: 'EAGAIN',
    message: /32 file transfers/,
  });
  await t.rejects(
    vm.readFiles('/etc/passwd', () => {}),
    { code: FAILED, errno: 'EAGAIN' },
  );
  t.ok((await vm.stats()).memory.agent < 8 * MIB, `the agent takes ${(await vm.stats()).memory.agent} bytes`);
  stop.abort(new Error('enough'));
  await Promise.all(failed);
  await nothingRuns(vm);
  t.equal(await shell(vm, 'find /held -type f'), '');
  t.match(await vm.writeFiles('/one/more', [block]), { bytes: block.length });

  const sizes = Array.from({ length: MOST_TRANSFERS }, (_, index) => 100_000 * index + index);
  await Promise.all(sizes.map((size) => vm.writeFiles(`/held/${size}`, content(size))));
  await Promise.all(
    sizes.map(async (size) => {
      const back = new Collector();
      await vm.readFiles(`/held/${size}`, back.sink);
      t.match(back.collected(), { bytes: size, sha256: hashOf(content(size)) }, `${size} bytes`);
    }),
  );
  await shell(vm, 'rm -r /held /one');
}

async function nothingRuns(vm: Vm): Promise<void> {
  await eventually(
    'no transfer is left',
    async () => !(await shell(vm, 'ps -o args')).includes('--role files'),
  );
}

/** Given up in the middle, a file is not there, nor half of one of an archive; what was whole stays. */
async function givenUp(t: Test, vm: Vm): Promise<void> {
  const size = bytes(256 * MIB);
  const used = async () => Number((await shell(vm, 'sync; df -k / | tail -n 1')).trim().split(/ +/)[2]);
  const before = await used();
  const archive = makeTar([
    { name: 'whole', content: Buffer.from('whole') },
    { name: 'half', content: new Uint8Array(0) },
  ]);
  // The second entry's header, with a size that never comes.
  const begun = makeTar([{ name: 'half', content: new Uint8Array(size) }], false).subarray(0, size / 2);
  for (const format of ['file', 'tar'] as const) {
    const stop = new AbortController();
    let sent = 0;
    async function* endless() {
      if (format === 'tar') yield archive.subarray(0, 1024);
      const source = format === 'tar' ? [begun] : content(size);
      for (const piece of source)
        for (let at = 0; at < piece.length; at += 65_536) {
          yield piece.subarray(at, at + 65_536);
          sent += 65_536;
          if (sent > size / 4 && !stop.signal.aborted) stop.abort(new Error('enough'));
        }
      await new Promise(() => {});
    }
    const path = format === 'file' ? '/given/up' : '/given';
    await t.rejects(vm.writeFiles(path, endless(), { format, signal: stop.signal }), /enough/, format);
    await nothingRuns(vm);
    t.equal(await shell(vm, 'ls -A /given'), format === 'file' ? '' : 'whole\n');
  }
  await eventually('its room is there again', async () => (await used()) < before + 8192);
  await shell(vm, 'rm -r /given');
}

async function full(t: Test, vm: Vm): Promise<void> {
  // All but a few megabytes of the disk.
  await shell(vm, 'fallocate -l $(($(df -k / | tail -n 1 | awk "{print \\$4}") - 6000))k /fill');
  await vm.writeFiles('/small', [Buffer.from('old')]);
  const room = async () => Number((await shell(vm, 'sync; df -k / | tail -n 1')).trim().split(/ +/)[3]);
  const before = await room();
  for (const size of [16 * MIB, 200 * MIB]) {
    const refused = { code: FAILED, errno: 'ENOSPC' };
    await t.rejects(
      vm.writeFiles('/small', content(size)),
      { ...refused, message: /'\/small'/ },
      `${size} bytes`,
    );
    await t.rejects(vm.writeFiles('/new/file', content(size)), refused);
    const archive = makeTar([
      { name: 'fits', content: Buffer.from('x') },
      { name: 'large', content: new Uint8Array(block.length * 16).fill(1) },
    ]);
    await t.rejects(vm.writeFiles('/tree', [archive], { format: 'tar' }), { ...refused, message: /'large'/ });
  }
  t.equal(
    await shell(vm, 'cat /small; ls -A /new /tree'),
    'old/new:\n\n/tree:\nfits\n',
    'nothing half-written is left',
  );
  await eventually('its room is there again', async () => (await room()) >= before - 100);
  await shell(vm, 'rm -r /fill /new /tree');
  t.match(await vm.writeFiles('/small', content(16 * MIB)), { bytes: 16 * MIB }, 'with room it goes on');
}

/** Transfers of each kind that do not end by themselves, and the moment at which all have begun. */
function transfers(vm: Vm): { all: Promise<unknown>[]; begun: Promise<unknown> } {
  const waits: Promise<void>[] = [];
  const once = () => {
    let begin = () => {};
    waits.push(
      new Promise((resolve) => {
        begin = resolve;
      }),
    );
    return () => begin();
  };
  async function* endless(begin: () => void) {
    for (let sent = 0; ; sent++) {
      if (sent === 3) begin();
      yield block;
    }
  }
  // Half of an archive's only entry, which as a file is as good as any.
  const half = makeTar([{ name: 'half', content: block }]).subarray(0, block.length / 2);
  async function* stalled(begin: () => void) {
    yield half;
    begin();
    await new Promise(() => {});
  }
  const held = (begin: () => void) => () => {
    begin();
    return new Promise<void>(() => {});
  };
  const all = [
    vm.writeFiles('/ends/endless', endless(once())),
    vm.writeFiles('/ends/stalled', stalled(once())),
    vm.writeFiles('/ends', stalled(once()), { format: 'tar' }),
    vm.readFiles('/dev/shm/large', held(once())),
    vm.readFiles('/', held(once()), { format: 'tar' }),
  ];
  for (const one of all) one.catch(() => {});
  // One that ends before it has begun is found by who looks at all of them.
  return { all, begun: Promise.race([Promise.all(waits), ...all]).catch(() => {}) };
}

async function ends(t: Test, vm: Vm): Promise<void> {
  await vm.writeFiles('/dev/shm/large', content(8 * MIB));
  const work = transfers(vm);
  const failed = work.all.map((one, index) =>
    t.rejects(one, { code: /^YAVM_E_(GUEST_SHUTTING_DOWN|VM_STOPPED)$/ }, String(index)),
  );
  await work.begun;
  const stopping = vm.stop();
  await Promise.all(failed);
  await t.rejects(vm.writeFiles('/later', [block]), { code: /^YAVM_E_(GUEST_SHUTTING_DOWN|VM_STOPPED)$/ });
  await stopping;
  t.equal((await vm.ended).orderly, true, 'and it ends in order');
}
