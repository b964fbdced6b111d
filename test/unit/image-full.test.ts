/** A full disk during a build: a named error, nothing left, and the output as it was. Needs root, for a small file system. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { buildImage } from '../../host/image/build/build.ts';
import { openSource } from '../../host/image/source/source.ts';
import { archiveOf, newDockerSave } from '../lib/container-archives.ts';
import { file, layerTar } from '../lib/layer-tar.ts';
import { inNamespaces } from '../lib/namespaces.ts';
import { Random } from '../lib/random.ts';

if (inNamespaces(import.meta.url)) {
  const folder = mkdtempSync(join(tmpdir(), 'yavm-full-'));
  const small = join(folder, 'small');
  mkdirSync(small);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'none', small]);
  t.teardown(() => {
    execFileSync('umount', [small]);
    rmSync(folder, { recursive: true });
  });
  const signal = new AbortController().signal;
  const noise = Buffer.from(new Random(3).bytes(3_000_000));
  const layers = [layerTar([file('noise', noise)])];
  const gzip = join(folder, 'image.tar');
  writeFileSync(gzip, archiveOf(newDockerSave(['gzip'], { tags: ['x'], config: {}, layers })));
  const tar = join(folder, 'root.tar');
  writeFileSync(tar, layers[0] as Buffer);
  mkdirSync(join(folder, 'root'));
  writeFileSync(join(folder, 'root', 'noise'), noise);

  for (const [what, reference, temp] of [
    ['packing a tar', tar, folder],
    ['packing a folder', join(folder, 'root'), folder],
    ['expanding a layer', gzip, small],
  ] as const) {
    t.test(what, async (t) => {
      const output = join(small, 'out.gvmi');
      writeFileSync(output, 'before');
      const source = await openSource(reference, { signal, temp: folder });
      t.teardown(() => source.close());
      if (source.kind === 'image') throw new Error('an image');
      const built = buildImage({ source, output, temp, compressor: 'zstd', signal });
      await t.rejects(built, { code: 'YAVM_E_DISK_FULL', message: /small/, hint: /room/ });
      t.same(readdirSync(small), ['out.gvmi'], 'nothing is left but what was there');
    });
  }

  t.test('an archive that is expanded as a whole', async (t) => {
    const packed = join(folder, 'packed.tar.gz');
    writeFileSync(packed, execFileSync('gzip', ['-c', gzip], { maxBuffer: 2 ** 30 }));
    await t.rejects(openSource(packed, { signal, temp: small }), { code: 'YAVM_E_DISK_FULL' });
    t.same(readdirSync(small), ['out.gvmi']);
  });
}
