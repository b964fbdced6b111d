/** Output that becomes a stream when it must: on files and pipes made here. */
import { closeSync, constants, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, type Writable } from 'node:stream';
import t from 'tap';
import { writeAll } from '../../host/cli/context.ts';
import { lateOutput } from '../../host/cli/standard-streams.ts';

const top = mkdtempSync(join(tmpdir(), 'yavm-streams-'));
t.teardown(() => rmSync(top, { recursive: true, force: true }));

function output(descriptor: number) {
  const opened: PassThrough[] = [];
  const stream = lateOutput(descriptor, () => {
    const real = new PassThrough();
    opened.push(real);
    return real;
  });
  return { stream, opened };
}

t.test('plain writes go to the descriptor, and make no stream', async (t) => {
  const path = join(top, 'plain');
  const fd = openSync(path, 'w');
  const { stream, opened } = output(fd);
  t.equal(stream.isTTY, undefined);
  t.equal(stream.columns, undefined);
  await writeAll(stream, 'ä');
  await writeAll(stream, Buffer.from('\0b'));
  await writeAll(stream, '');
  t.equal(stream.write('c\n'), true);
  closeSync(fd);
  t.equal(readFileSync(path, 'utf8'), 'ä\0bc\n');
  t.same(opened, []);
  await writeAll(stream, 'lost');
  t.same(opened, [], 'a write that fails ends, as on a stream whose errors nobody wants');
});

t.test('who asks for more gets the stream, once', async (t) => {
  const fd = openSync(join(top, 'more'), 'w');
  t.teardown(() => closeSync(fd));
  const { stream, opened } = output(fd);
  stream.write('before ');
  let drained = 0;
  stream.on('drain', () => drained++);
  stream.once('unpipe', () => {});
  t.equal(opened.length, 1);
  t.equal(stream.writable, true);
  stream.write('after');
  t.equal(String(opened[0]?.read()), 'after', 'writes are the stream’s from then on');
  const source = new PassThrough();
  source.pipe(stream as Writable);
  source.end('piped');
  await new Promise((resolve) => stream.once('finish', resolve));
  t.equal(String(opened[0]?.read()), 'piped');
  t.ok(opened[0]?.emit('error', new Error('gone')), 'somebody listens');
});

t.test('what a full pipe does not take, the stream writes', async (t) => {
  const path = join(top, 'pipe');
  const { execFileSync } = await import('node:child_process');
  execFileSync('mkfifo', [path]);
  const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  t.teardown(() => closeSync(fd));
  const { stream, opened } = output(fd);
  const bytes = Buffer.alloc(1024 * 1024, 'x');
  stream.write(bytes);
  const rest = opened[0]?.readableLength ?? 0;
  t.ok(rest > 0 && rest < bytes.length, `${rest} bytes were left`);
});

t.test('a device, or what is closed, is the real stream from the start', async (t) => {
  const fd = openSync('/dev/null', 'w');
  t.equal(output(fd).opened.length, 1);
  closeSync(fd);
  t.equal(output(fd).opened.length, 1);
});
