/** `ya-vm image …` and what `--image` is resolved to, by the whole command line. */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { parseWords } from '../../host/cli/image-build.ts';
import { resolveImages } from '../../host/cli/image-store.ts';
import { runProgram } from '../../host/cli/program.ts';
import { ProgressLine } from '../../host/cli/progress-line.ts';
import { styleFor } from '../../host/cli/style.ts';
import { encodeTrailer } from '../../host/image/gvmi.ts';
import { verifyImage } from '../../host/image/verify.ts';
import { testContext } from '../lib/cli.ts';
import { archiveOf, oldDockerSave } from '../lib/container-archives.ts';
import { sha3 } from '../lib/http-server.ts';
import { file, layerTar } from '../lib/layer-tar.ts';

const folder = mkdtempSync(join(tmpdir(), 'yavm-image-cli-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
const archive = join(folder, 'job.tar');
const image = {
  tags: ['job:1'],
  config: { Cmd: ['/job'], Env: ['A=1'] },
  layers: [layerTar([file('job', 'x'.repeat(9000))])],
};
writeFileSync(
  archive,
  archiveOf(oldDockerSave(image, { ...image, tags: ['job:2'], config: { Cmd: ['/two'] } })),
);
const output = join(folder, 'job.gvmi');

async function cli(...words: string[]): Promise<{ code: number; out: string; err: string }> {
  const context = testContext();
  context.env = { ...process.env };
  const code = await runProgram(words, context);
  return { code, out: context.out(), err: context.err() };
}

t.test('build', async (t) => {
  const made = await cli(
    'image',
    'build',
    `docker-archive:${archive}:job:1`,
    '-o',
    output,
    '--env',
    'B=2',
    '--label',
    'l=1',
  );
  t.equal(made.code, 0, made.err);
  const hash = sha3(readFileSync(output));
  t.match(made.out, `${output}  `);
  t.match(made.out, `hash:sha3:${hash}:URL`);
  t.match(made.err, /packing 100 % of 8\.79 KiB/, 'without a terminal a line each quarter');
  t.match((await verifyImage(output)).config, { env: ['A=1', 'B=2'], cmd: ['/job'] });
  const again = await cli(
    'image',
    'build',
    archive,
    '--tag',
    '2',
    '--output',
    output,
    '--json',
    '--no-progress',
    '--compressor',
    'lzo',
    '--level',
    '1',
  );
  t.equal(again.err, '');
  t.match(JSON.parse(again.out), {
    path: output,
    size: statSync(output).size,
    hash: sha3(readFileSync(output)),
  });
  t.match(await verifyImage(output), { compressor: 'lzo', config: { cmd: ['/two'] } });
  const here = process.cwd();
  process.chdir(folder);
  t.teardown(() => process.chdir(here));
  t.equal((await cli('image', 'build', 'job.tar', '--tag', '1', '--no-progress')).code, 0);
  t.ok(existsSync(join(folder, 'job.gvmi')), 'the source’s name');
});

t.test('build, with words that cannot be', async (t) => {
  const cases: [words: string[], says: RegExp][] = [
    [[], /missing required argument/],
    [[archive, '--compressor', 'lzma'], /no compressor.*gzip, lzo/s],
    [[archive, '--tag', '1', '--compressor', 'xz', '--level', '3'], /xz has no levels/],
    [[archive, '--tag', '1', '--level', '23'], /level/],
    [[archive, '--owner', 'me'], /no owner/],
    [[archive, '--owner', '1:99999999999'], /no owner/],
    [[archive, '--env', 'A'], /not KEY=value/],
    [[archive, '--volume', 'relative'], /absolute path/],
    [[archive, '--cmd', '["a"'], /no list in JSON/],
    [[archive, '--cmd', '[1]'], /no list of words/],
    [[archive, '--temp', join(folder, 'none')], /is no folder/],
    [[archive, '-o', join(folder, 'none', 'x')], /is no folder/],
    [[archive], /has 2 images; there are: job:1; job:2/],
    [[output], /is an image already/],
    [[join(folder, 'none')], /ENOENT/],
    [['alpine:latest'], /docker save/],
    [['docker://alpine'], /docker save/],
  ];
  for (const [words, says] of cases) {
    const { code, err } = await cli('image', 'build', ...words);
    t.equal(code, 125, words.join(' '));
    t.match(err, says);
    t.match(err, /\(YAVM_E_\w+\)/);
  }
});

t.test('hash and verify', async (t) => {
  const hex = sha3(readFileSync(output));
  t.same(await cli('image', 'hash', output), { code: 0, out: `hash:sha3:${hex}\n`, err: '' });
  t.equal((await cli('image', 'hash', output, 'https://h/x')).out, `hash:sha3:${hex}:https://h/x\n`);
  t.match((await cli('image', 'hash', '--bits', '512', output)).out, /^hash:sha3:[0-9a-f]{128}\n$/);
  t.match(await cli('image', 'hash', output, 'no url'), { code: 125, err: /no URL/ });
  t.match(await cli('image', 'hash', folder), { code: 125, err: /not a regular file/ });
  t.match(await cli('image', 'verify', output), { code: 0, out: /: gvmi, .*: format ok\n$/ });
  const named = ['--hash', `hash:sha3:${hex}:https://h/x`, '--deep'];
  t.match(await cli('image', 'verify', output, ...named), { code: 0, out: /format, hash, content ok\n$/ });
  const other = `hash:sha3:${'0'.repeat(64)}`;
  t.match(await cli('image', 'verify', '--hash', other, output), { code: 125, err: /YAVM_E_IMAGE_HASH/ });
  t.match(await cli('image', 'verify', '--hash', 'abc', output), { code: 125, err: /no SHA3/ });
  const bytes = readFileSync(output);
  const damaged = join(folder, 'damaged.gvmi');
  // Behind the superblock: the content.
  writeFileSync(damaged, Buffer.from(bytes).fill(0xff, 100, 160));
  t.match(await cli('image', 'verify', damaged), { code: 0 }, 'squashfs has no checksums');
  t.match(await cli('image', 'verify', '--deep', damaged), { code: 125, err: /damaged.*unsquashfs/ });
  writeFileSync(damaged, encodeTrailer({}));
  t.match(await cli('image', 'verify', '--deep', damaged), { code: 125, err: /YAVM_E_IMAGE_FORMAT/ });
});

t.test('inspect, also of what is not built yet', async (t) => {
  t.match(await cli('image', 'inspect', output), { code: 0, out: /gvmi: squashfs with metadata/ });
  const reference = `docker-archive:${archive}:1`;
  t.match(
    (await cli('image', 'inspect', reference)).out,
    /container image, 1 layers.*layers {6}sha256:.*cmd.*"\/job"/s,
  );
  t.match(JSON.parse((await cli('image', 'inspect', '--json', reference)).out), {
    kind: 'container',
    layers: [{ size: image.layers[0]?.length }],
    config: { env: ['A=1'], cmd: ['/job'] },
  });
  t.match(await cli('image', 'inspect', folder), { code: 125, err: /not a regular file/ });
  t.match(await cli('image', 'inspect', '/etc/passwd'), { code: 125, err: /YAVM_E_IMAGE_FORMAT/ });
});

t.test('words as in a Dockerfile', async (t) => {
  t.same(parseWords('["a", "b c"]'), ['a', 'b c']);
  t.same(parseWords(' ["a"]'), ['a']);
  t.same(parseWords('echo $A && true'), ['/bin/sh', '-c', 'echo $A && true']);
  t.same(parseWords(''), []);
  t.same(parseWords('[]'), []);
});

t.test('--image: what is no image is built, once', async (t) => {
  const context = testContext();
  context.env = { ...process.env, XDG_CACHE_HOME: join(folder, 'cache'), SOURCE_DATE_EPOCH: 'ignored' };
  const cache = join(folder, 'cache/ya-vm/images');
  const signal = new AbortController().signal;
  const resolve = (...references: string[]) =>
    resolveImages(context, references, { signal, progress: false });
  const reference = `docker-archive:${archive}:1`;
  t.same(await resolve(output), { paths: [output], built: null });
  t.notOk(existsSync(cache), 'an image leaves nothing in the cache');
  const first = await resolve(reference, output);
  t.match(first, { paths: [/\.gvmi$/, output], built: Number });
  t.match((await verifyImage(first.paths[0] as string)).config, { cmd: ['/job'] });
  t.same(await resolve(reference), { paths: [first.paths[0]], built: null });
  const both = await Promise.all([
    resolve(`docker-archive:${archive}:2`),
    resolve(`docker-archive:${archive}:2`),
  ]);
  t.equal(both[0]?.paths[0], both[1]?.paths[0], 'two at a time: one image');
  utimesSync(archive, 1, 1);
  t.not((await resolve(reference)).paths[0], first.paths[0], 'a source that was touched is built again');
  writeFileSync(first.paths[0] as string, 'damaged');
  const root = join(folder, 'rootfs');
  mkdirSync(join(root, 'd'), { recursive: true });
  writeFileSync(join(root, 'd', 'f'), '1');
  const { paths } = await resolve(root);
  t.same((await resolve(`${root}/`)).paths, paths);
  writeFileSync(join(root, 'd', 'f'), '2');
  t.notSame((await resolve(root)).paths, paths, 'a folder in which a file was written to');
  t.same(
    readdirSync(cache).filter((name) => !name.endsWith('.gvmi')),
    [],
    'nothing but images is left',
  );
  await t.rejects(resolve(join(folder, 'none')), { code: 'YAVM_E_IMAGE_UNREADABLE' });
  await t.rejects(resolve(archive), { code: 'YAVM_E_IMAGE_SOURCE' });
  await t.rejects(
    resolveImages(context, [root], { signal: AbortSignal.abort(new Error('enough')), progress: false }),
    { message: 'enough' },
  );
});

t.test('the cache is bounded: what was not used for the longest time goes', async (t) => {
  const context = testContext();
  context.env = { ...process.env, XDG_CACHE_HOME: join(folder, 'bounded') };
  const signal = new AbortController().signal;
  const built: string[] = [];
  for (let index = 0; index < 4; index++) {
    const source = join(folder, `bounded-${index}.tar`);
    writeFileSync(source, layerTar([file('f', String(index))]));
    const { paths } = await resolveImages(context, [source], { signal, progress: false, limit: 10_000 });
    built.push(paths[0] as string);
    // Two of them fit. Those of the last hour stay: somebody may be about to open them.
    if (index < 2) utimesSync(paths[0] as string, index, index + 1);
  }
  t.same(
    built.map((path) => existsSync(path)),
    [false, false, true, true],
  );
});

t.test('how far it is', async (t) => {
  const written: string[] = [];
  const screen = {
    write: (text: string) => void written.push(text),
    columns: () => 80,
    style: styleFor(false),
  };
  let clock = 0;
  const live = new ProgressLine({ ...screen, shown: true, live: true, now: () => clock });
  for (const done of [0, 10, 20, 50, 100]) {
    live.update('packing', done * 1024, 100 * 1024);
    clock += 40;
  }
  live.clear();
  t.same(written, [
    '\r\u001b[Kpacking [------------------------] 0 % 0 B of 100 KiB',
    '\r\u001b[Kpacking [############------------] 50 % 50 KiB of 100 KiB',
    '\r\u001b[Kpacking [########################] 100 % 100 KiB of 100 KiB',
    '\r\u001b[K',
  ]);
  written.length = 0;
  const plain = new ProgressLine({ ...screen, shown: true, live: false, now: () => clock });
  for (const done of [1, 2, 30, 40, 99, 100]) plain.update('packing', done, 100);
  plain.clear();
  t.same(
    written,
    ['0', '25', '75', '100'].map((percent) => `ya-vm: packing ${percent} % of 100 B\n`),
  );
  written.length = 0;
  new ProgressLine({ ...screen, shown: false, live: true, now: () => clock }).update('packing', 1, 2);
  t.same(written, []);
});
