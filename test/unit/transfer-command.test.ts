/** A transfer from its words to its bytes: both ends, the hash, retries, what is left when something fails. */
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import t from 'tap';
import { YavmError } from '../../host/lib/errors.ts';
import { silentLogger } from '../../host/lib/logger.ts';
import { type Ends, type TransferWords, transferCommand } from '../../host/transfer/command.ts';
import { containerPath } from '../../host/transfer/container.ts';
import { fileDestination, fileSource } from '../../host/transfer/file.ts';
import type { Digest } from '../../host/transfer/location.ts';
import { TransferProgress } from '../../host/transfer/progress.ts';
import { pulled } from '../../host/transfer/pull.ts';
import { Staging } from '../../host/transfer/staging.ts';
import { transfer } from '../../host/transfer/transfer.ts';
import type {
  Bytes,
  ProgressReport,
  TransferDestination,
  TransferSource,
} from '../../host/transfer/types.ts';
import { MemoryFiles } from '../lib/memory-files.ts';
import type { Owner } from '../lib/vm.ts';

const NEVER = new AbortController().signal;
const CONTENT = randomBytes(300_000);

function folderFor(t: Owner): string {
  const folder = mkdtempSync(join(tmpdir(), 'yavm-transfer-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

async function* pieces(bytes: Uint8Array, size = 10_000): Bytes {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

/** Gives `attempts` in turn: bytes, or what is thrown after them. */
function source(...attempts: { bytes?: Uint8Array; size?: number | null; error?: Error }[]): TransferSource {
  let index = 0;
  return {
    shown: 'a source',
    async open() {
      const { bytes = new Uint8Array(), size = null, error } = attempts[index++] ?? {};
      async function* body(): Bytes {
        yield* pieces(bytes);
        if (error) throw error;
      }
      return { size, bytes: body() };
    },
  };
}

class Collected implements TransferDestination {
  readonly shown = 'a destination';
  readonly whole: Buffer[] = [];
  attempts = 0;

  async write({ bytes }: { bytes: Bytes }): Promise<void> {
    this.attempts++;
    const parts: Buffer[] = [];
    for await (const piece of bytes) parts.push(Buffer.from(piece));
    this.whole.push(Buffer.concat(parts));
  }
}

function digestOf(bytes: Uint8Array): Digest {
  return { algorithm: 'sha3-224', hex: createHash('sha3-224').update(bytes).digest('hex') };
}

function engine(digest: Digest | null, from: TransferSource, waits: number[] = []) {
  const to = new Collected();
  const reports: ProgressReport[] = [];
  const progress = new TransferProgress((report) => void reports.push(report), { updateInterval: 0 });
  const wait = async (milliseconds: number) => void waits.push(milliseconds);
  const done = transfer({ from, to, digest }, { signal: NEVER, progress, sleep: wait });
  return { to, reports, done };
}

// ---------------------------------------------------------------- engine

t.test('all bytes arrive, are counted, and have their hash', async (t) => {
  const { to, reports, done } = engine(digestOf(CONTENT), source({ bytes: CONTENT, size: CONTENT.length }));
  t.equal(await done, CONTENT.length);
  t.ok(to.whole[0]?.equals(CONTENT));
  t.same(reports[0], { done: 0, total: CONTENT.length, unit: 'Bytes' });
  t.same(reports.at(-1), { done: CONTENT.length, total: CONTENT.length, unit: 'Bytes' });
});

t.test('a wrong hash, and a wrong size, is found before the destination is told of the end', async (t) => {
  const other = digestOf(Buffer.from('other'));
  const cases: [string, Digest | null, TransferSource][] = [
    ['YAVM_E_TRANSFER_HASH', other, source({ bytes: CONTENT })],
    ['YAVM_E_TRANSFER_SIZE', null, source({ bytes: CONTENT, size: CONTENT.length + 1 })],
    ['YAVM_E_TRANSFER_SIZE', null, source({ bytes: CONTENT, size: CONTENT.length - 1 })],
    ['YAVM_E_TRANSFER_SIZE', null, source({ bytes: CONTENT, size: 0 })],
  ];
  for (const [code, digest, from] of cases) {
    const { to, done } = engine(digest, from);
    await t.rejects(done, { code });
    t.equal(to.whole.length, 0);
    t.equal(to.attempts, 1, 'such an error does not pass');
  }
});

t.test('failures that may pass are tried again, twice, from the beginning', async (t) => {
  const passing = () => Object.assign(new Error('connection reset'), { retry: true });
  const waits: number[] = [];
  const some = CONTENT.subarray(0, 50_000);
  const good = engine(
    digestOf(CONTENT),
    source({ bytes: some, error: passing() }, { error: passing() }, { bytes: CONTENT }),
    waits,
  );
  t.equal(await good.done, CONTENT.length);
  t.same(waits, [2000, 4000]);
  t.ok(good.to.whole[0]?.equals(CONTENT), 'nothing of the first attempt is in it');
  t.match(
    good.reports.find(({ message }) => message),
    { message: 'Retry in 2s because of error: connection reset', done: 50_000 },
  );
  const bad = engine(
    null,
    source({ error: passing() }, { error: passing() }, { error: passing() }, { bytes: CONTENT }),
  );
  await t.rejects(bad.done, { message: 'connection reset' });
  t.equal(bad.to.attempts, 3);
  const bus = new YavmError('YAVM_E_GSB_TIMEOUT', 'no answer');
  t.equal(await engine(null, source({ error: bus }, { bytes: some })).done, some.length);
});

t.test('an abort ends a transfer at once, whatever its ends wait for', async (t) => {
  const stop = new AbortController();
  const freed: string[] = [];
  const from: TransferSource = {
    shown: 'slow',
    async open({ signal }) {
      async function* body(): Bytes {
        try {
          yield CONTENT;
          await new Promise((_, reject) => {
            signal.addEventListener('abort', () => reject(new Error('socket closed')), { once: true });
            setImmediate(() => stop.abort(new Error('terminated')));
          });
        } finally {
          freed.push('source');
        }
      }
      return { size: null, bytes: body() };
    },
  };
  const progress = new TransferProgress(() => {});
  const context = { signal: stop.signal, progress };
  await t.rejects(transfer({ from, to: new Collected(), digest: null }, context), { message: 'terminated' });
  t.same(freed, ['source']);
  await t.rejects(transfer({ from, to: new Collected(), digest: null }, context), { message: 'terminated' });
});

t.test('a destination that fails ends the source', async (t) => {
  let freed = false;
  const from: TransferSource = {
    shown: 'endless',
    async open({ signal }) {
      signal.addEventListener('abort', () => {
        freed = true;
      });
      async function* body(): Bytes {
        for (;;) yield CONTENT;
      }
      return { size: null, bytes: body() };
    },
  };
  const to: TransferDestination = {
    shown: 'full',
    async write({ bytes }) {
      for await (const _ of bytes) throw new Error('disk full');
    },
  };
  const progress = new TransferProgress(() => {});
  await t.rejects(transfer({ from, to, digest: null }, { signal: NEVER, progress }), {
    message: 'disk full',
  });
  t.ok(freed);
});

// ---------------------------------------------------------------- pulling

t.test('a producer waits while nobody asks, and ends when its reader leaves', async (t) => {
  let produced = 0;
  let aborted = false;
  const endless = pulled(async (sink, signal) => {
    signal.addEventListener('abort', () => {
      aborted = true;
    });
    while (!signal.aborted) {
      produced++;
      await sink(Buffer.from(String(produced)));
    }
  }, NEVER);
  const seen: string[] = [];
  for await (const piece of endless) {
    seen.push(Buffer.from(piece).toString());
    t.equal(produced, seen.length, 'one piece ahead of nobody');
    if (seen.length === 3) break;
  }
  t.same(seen, ['1', '2', '3']);
  t.ok(aborted);
  const failing = pulled(async (sink) => {
    await sink(Buffer.from('a'));
    throw new Error('broke');
  }, NEVER);
  const some: string[] = [];
  await t.rejects(
    (async () => {
      for await (const piece of failing) some.push(Buffer.from(piece).toString());
    })(),
    { message: 'broke' },
  );
  t.same(some, ['a']);
  for await (const _ of pulled(async () => {}, NEVER)) t.fail('nothing was produced');
});

// ---------------------------------------------------------------- paths

t.test('paths in the VM are absolute, and climb nowhere', async (t) => {
  const good: [string, string][] = [
    ['container:/a/b', '/a/b'],
    ['container:///a', '/a'],
    ['container:/a%20b/%C3%A4', '/a b/ä'],
    ['container:/a/', '/a/'],
    ['container:/x%2Fy', '/x/y'],
    ['container:/..a/b..', '/..a/b..'],
    // The URL's own dots never reach us.
    ['container:/a/../b', '/b'],
    ['container:/%2e%2e/b', '/b'],
  ];
  for (const [text, path] of good) t.equal(containerPath(new URL(text)), path, text);
  const bad = [
    'container:a/b',
    'container:',
    'container://host/a',
    'container:/in/..%2F..%2Fetc/passwd',
    'container:/in/%2e%2e%2Fx',
    'container:/in%2F..%2F..',
    'container:/a%00b',
    'container:/%ff',
    'container:/%',
    `container:/${'x'.repeat(5000)}`,
  ];
  for (const text of bad) {
    t.throws(() => containerPath(new URL(text)), { code: 'YAVM_E_CONTAINER_PATH' }, text.slice(0, 60));
  }
});

// ---------------------------------------------------------------- before the start

t.test('files that come before the start wait for it, in their order', async (t) => {
  const folder = join(folderFor(t), 'staged');
  const staging = new Staging(folder);
  t.notOk(existsSync(folder), 'nothing is made before something comes');
  const put = (path: string, text: string, format: 'file' | 'tar' = 'file') =>
    staging.writeFiles(path, pieces(Buffer.from(text), 2), { format, signal: NEVER });
  await put('/a', 'first');
  await put('/b', 'other');
  await put('/a', 'second');
  await put('/dir', 'a tar', 'tar');
  await put('/a', 'third');
  t.equal(readdirSync(folder).length, 4, 'what was replaced before an archive came is gone');
  const read: Buffer[] = [];
  const sink = (bytes: Uint8Array) => void read.push(Buffer.from(bytes));
  await staging.readFiles('/a', sink, { format: 'file', signal: NEVER });
  t.equal(Buffer.concat(read).toString(), 'third');
  await t.rejects(staging.readFiles('/etc/passwd', sink, { format: 'file', signal: NEVER }), {
    code: 'YAVM_E_NOT_STARTED',
  });
  async function* broken(): Bytes {
    yield Buffer.from('half');
    throw new Error('gone');
  }
  await t.rejects(staging.writeFiles('/b', broken(), { format: 'file', signal: NEVER }), {
    message: 'gone',
  });
  t.equal(readdirSync(folder).length, 4, 'half of a file does not stay');
  const files = new MemoryFiles();
  await staging.deliver(files, NEVER);
  t.same(files.calls, ['write file /b', 'write file /a', 'write tar /dir', 'write file /a']);
  t.equal(files.content.get('/a')?.toString(), 'third');
  t.equal(files.content.get('/b')?.toString(), 'other');
  t.equal(files.content.get('tar:/dir')?.toString(), 'a tar');
  t.same(readdirSync(folder), []);
  await put('/late', 'x');
  await staging.clear();
  t.notOk(existsSync(folder));
});

// ---------------------------------------------------------------- the command

interface Given {
  files?: MemoryFiles;
  ends?: Record<string, Ends>;
  formats?: string[];
}

function command(words: TransferWords, { files = new MemoryFiles(), ends, formats = [] }: Given = {}) {
  return transferCommand(words, {
    files,
    ends: ends ?? { file: { source: fileSource, destination: fileDestination } },
    packing: async (_, format) => {
      formats.push(format);
      const mark = (bytes: Bytes, text: string): Bytes =>
        (async function* () {
          yield Buffer.from(text);
          yield* bytes;
        })();
      return {
        pack: (tar) => mark(tar, `packed ${format}:`),
        unpack: (archive) => mark(archive, `unpacked ${format}:`),
      };
    },
    progress: () => {},
    signal: NEVER,
    logger: silentLogger,
  });
}

t.test('from files into the VM, back, and from one path of it to another', async (t) => {
  const folder = folderFor(t);
  const file = join(folder, 'in file');
  writeFileSync(file, CONTENT);
  const files = new MemoryFiles();
  const url = pathToFileURL(file).href;
  await command({ from: url, to: 'container:/in/x' }, { files });
  t.ok(files.content.get('/in/x')?.equals(CONTENT));
  await command({ from: '/in/x', to: '/out/y' }, { files });
  t.ok(files.content.get('/out/y')?.equals(CONTENT), 'a path alone is one in the VM');
  const back = pathToFileURL(join(folder, 'back')).href;
  const { hex } = digestOf(CONTENT);
  await command({ from: `hash:sha3:${hex}:container:/out/y`, to: back }, { files });
  t.ok(readFileSync(join(folder, 'back')).equals(CONTENT));
  await t.rejects(command({ from: `hash:sha3:${'0'.repeat(56)}:${url}`, to: back }, { files }), {
    code: 'YAVM_E_TRANSFER_HASH',
  });
  await t.rejects(command({ from: `hash:sha3:${'0'.repeat(56)}:${url}`, to: '/in/x' }, { files }), {
    code: 'YAVM_E_TRANSFER_HASH',
  });
  t.equal(files.broken, 1);
  t.same(readdirSync(folder).sort(), ['back', 'in file'], 'no part of the failed one is left');
});

t.test('with a format the side in the VM is a directory', async (t) => {
  const folder = folderFor(t);
  const files = new MemoryFiles();
  const formats: string[] = [];
  files.content.set('tar:/work/.', Buffer.from('TAR'));
  files.content.set('tar:/.', Buffer.from('ROOT'));
  const out = pathToFileURL(join(folder, 'x.zip')).href;
  await command({ from: 'container:/work/', to: out, format: 'zip' }, { files, formats });
  t.equal(readFileSync(join(folder, 'x.zip'), 'utf8'), 'packed zip:TAR');
  await command({ from: out, to: 'container:/other/', format: 'zip' }, { files, formats });
  t.equal(files.content.get('tar:/other')?.toString(), 'unpacked zip:packed zip:TAR');
  await command({ from: '/', to: '/copy', format: 'tar.xz' }, { files, formats });
  t.equal(
    files.content.get('tar:/copy')?.toString(),
    'unpacked tar:packed tar:ROOT',
    'nothing is compressed inside the VM',
  );
  t.same(formats, ['zip', 'zip', 'tar']);
});

t.test('what cannot be a transfer says why', async (t) => {
  const folder = folderFor(t);
  const missing = pathToFileURL(join(folder, 'missing')).href;
  const cases: [TransferWords, string, Given?][] = [
    [{ from: 'ftp://h/x', to: '/x' }, 'YAVM_E_UNSUPPORTED'],
    [{ from: '/x', to: 'ftp://h/x' }, 'YAVM_E_UNSUPPORTED'],
    [{ from: 'file:///etc/passwd', to: '/x' }, 'YAVM_E_UNSUPPORTED', { ends: {} }],
    [{ from: '/x', to: 'constructor:/x' }, 'YAVM_E_UNSUPPORTED'],
    [{ from: '', to: '/x' }, 'YAVM_E_URL'],
    [{ from: 'hash:sha3:12:http://h/x', to: '/x' }, 'YAVM_E_UNSUPPORTED'],
    [{ from: missing, to: '/x' }, 'YAVM_E_TRANSFER'],
    [{ from: pathToFileURL(folder).href, to: '/x' }, 'YAVM_E_TRANSFER'],
    [{ from: '/x', to: pathToFileURL(join(folder, 'no', 'x')).href }, 'YAVM_E_TRANSFER'],
    [{ from: '/x', to: '/y' }, 'YAVM_E_GUEST_FILE_FAILED'],
    [{ from: 'container:/a/..%2fb', to: '/x' }, 'YAVM_E_CONTAINER_PATH'],
  ];
  for (const [words, code, given] of cases) {
    await t.rejects(command(words, given), { code }, `${words.from} → ${words.to}`);
  }
  t.same(readdirSync(folder), []);
});
