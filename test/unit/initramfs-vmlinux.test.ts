import { execFileSync } from 'node:child_process';
import { gzipSync, constants as zlib, zstdCompressSync } from 'node:zlib';
import t from 'tap';
import { ToolError } from '../../initramfs/errors.ts';
import { runTool } from '../../initramfs/tool.ts';
import { detectCompression } from '../../initramfs/vmlinux/decompress.ts';
import { interpreterOf, parseElf } from '../../initramfs/vmlinux/elf.ts';
import { extractVmlinux } from '../../initramfs/vmlinux/extract.ts';
import { makeBzImage, makeElf, makeVmlinux, PVH_ENTRY, RELEASE, withSize } from '../lib/kernel-fixture.ts';

const vmlinux = makeVmlinux();
const by = (command: string, ...args: string[]) => execFileSync(command, args, { input: vmlinux });

/** As the kernel's build packs: its options, and the size behind all but gzip. */
const PAYLOADS: Record<string, () => Buffer> = {
  gzip: () => gzipSync(vmlinux, { level: 9 }),
  zstd: () => {
    const params = { [zlib.ZSTD_c_compressionLevel]: 22, [zlib.ZSTD_c_windowLog]: 27 };
    return withSize(zstdCompressSync(vmlinux, { params }), vmlinux.length);
  },
  lz4: () => withSize(by('lz4', '-l', '-9', '-c'), vmlinux.length),
  xz: () => withSize(by('xz', '--check=crc32', '--x86', '--lzma2=dict=32MiB', '-c'), vmlinux.length),
  lzma: () => withSize(by('xz', '--format=lzma', '-9', '-c'), vmlinux.length),
  bzip2: () => withSize(by('bzip2', '-9', '-c'), vmlinux.length),
  lzo: () => withSize(by('lzop', '-9', '-c'), vmlinux.length),
};

function isInstalled(compression: string): boolean {
  const command = { bzip2: 'bzip2', lzo: 'lzop' }[compression];
  if (command === undefined) return true;
  try {
    execFileSync('sh', ['-c', `command -v ${command}`]);
    return true;
  } catch {
    return false;
  }
}

for (const [name, pack] of Object.entries(PAYLOADS)) {
  const skip = isInstalled(name) ? false : `${name} is not installed, and not needed for Debian's kernels`;
  t.test(`a bzImage packed with ${name} is unpacked`, { skip }, async (t) => {
    const payload = pack();
    t.equal(detectCompression(payload), name);
    for (const setupSects of [4, 39]) {
      const found = await extractVmlinux(makeBzImage(payload, { setupSects }));
      t.ok(Buffer.from(found.bytes).equals(vmlinux));
      t.equal(found.entry, PVH_ENTRY);
      t.equal(found.compression, name);
      t.match(found.version, `${RELEASE} (test@host)`);
    }
  });
}

t.test('setup_sects 0 means 4', async (t) => {
  const image = makeBzImage(gzipSync(vmlinux));
  image[0x1f1] = 0;
  t.equal((await extractVmlinux(image)).bytes.length, vmlinux.length);
});

t.test('a vmlinux is taken as it is, without what is appended to it', async (t) => {
  const found = await extractVmlinux(Buffer.concat([vmlinux, Buffer.alloc(5000, 0xee)]));
  t.ok(Buffer.from(found.bytes).equals(vmlinux));
  t.equal(found.compression, null);
});

t.test('a kernel without the PVH note is refused with the symbol that it lacks', async (t) => {
  const image = makeBzImage(gzipSync(makeVmlinux({ pvh: false })));
  await t.rejects(extractVmlinux(image), {
    code: 'YAVM_E_INITRAMFS_CONFIG',
    message: /CONFIG_PVH/,
    symbols: ['CONFIG_PVH'],
  });
});

t.test('what is no usable kernel is refused', async (t) => {
  const payload = gzipSync(vmlinux);
  const good = makeBzImage(payload);
  const cut = (bytes: Buffer, length: number) => bytes.subarray(0, length);
  const wrongSize = Buffer.from(payload);
  wrongSize.writeUInt32LE(vmlinux.length + 1, payload.length - 4);
  const flipped = Buffer.from(payload);
  flipped[payload.length >> 1]! ^= 0x10;
  const cases: [string, Buffer, RegExp][] = [
    ['an empty file', Buffer.alloc(0), /no bzImage/],
    ['another file', Buffer.alloc(4096, 'text '), /no bzImage/],
    ['an old boot protocol', makeBzImage(payload, { protocol: 0x0207 }), /2\.7 is older than 2\.08/],
    ['a bzImage cut in its payload', cut(good, good.length - 200), /not inside the file/],
    ['an unknown compression', makeBzImage(Buffer.alloc(64, 0x11)), /unknown compression.*1111/],
    ['damaged gzip', makeBzImage(flipped), /damaged/],
    ['a size that does not fit', makeBzImage(wrongSize), /./],
    [
      'a wrong size behind zstd',
      makeBzImage(withSize(zstdCompressSync(vmlinux), 17)),
      /unpacked to \d+ bytes.* 17/,
    ],
    ['an absurd size', makeBzImage(withSize(zstdCompressSync(vmlinux), 0xffffffff)), /claims to be/],
    ['a payload that is no ELF', makeBzImage(gzipSync(Buffer.alloc(5000, 'x'))), /not an ELF/],
    ['an ELF for another machine', makeElf({ machine: 183, load: Buffer.from('x') }), /not for x86-64/],
    ['a vmlinux cut short', cut(vmlinux, vmlinux.length - 1), /truncated/],
  ];
  for (const [what, bytes, message] of cases)
    await t.rejects(extractVmlinux(bytes), { code: 'YAVM_E_INITRAMFS_KERNEL', message }, what);
});

t.test('hostile ELF headers are refused, whatever they claim', async (t) => {
  for (let at = 16; at < 64 + 56 * 2; at++) {
    const bad = Buffer.from(vmlinux);
    bad[at] = 0xff;
    try {
      const { bytes } = await extractVmlinux(bad);
      t.ok(bytes.length <= bad.length, `byte ${at} does not matter`);
    } catch (error) {
      t.match(error, { code: /^YAVM_E_INITRAMFS_(KERNEL|CONFIG)$/ }, `byte ${at}`);
    }
  }
});

t.test('the interpreter of a dynamic program is found', async (t) => {
  const dynamic = makeElf({ interpreter: '/lib64/ld-linux-x86-64.so.2', load: Buffer.from('x') });
  t.equal(interpreterOf(dynamic, parseElf(dynamic)), '/lib64/ld-linux-x86-64.so.2');
  t.equal(interpreterOf(vmlinux, parseElf(vmlinux)), null);
});

t.test('a decompressor that is not installed is named with its package', async (t) => {
  const image = makeBzImage(withSize(by('lz4', '-l', '-c'), vmlinux.length));
  const missing: typeof runTool = (_command, args, options) => runTool('ya-vm-no-such-lz4', args, options);
  await t.rejects(extractVmlinux(image, missing), {
    code: 'YAVM_E_INITRAMFS_TOOL',
    message: /not installed/,
  });
  const path = process.env.PATH;
  t.teardown(() => {
    process.env.PATH = path;
  });
  process.env.PATH = '/nonexistent';
  await t.rejects(runTool('lz4', ['-dc']), { code: 'YAVM_E_INITRAMFS_TOOL', hint: /apt-get install lz4/ });
});

t.test('tools are bounded in time and output, and their errors are told', async (t) => {
  await t.rejects(runTool('sleep', ['30'], { timeout: 50 }), { message: /did not end within 0\.05 s/ });
  const ender = new AbortController();
  const asked = runTool('sleep', ['30'], { signal: ender.signal });
  ender.abort(new Error('no longer wanted'));
  await t.rejects(asked, { message: 'no longer wanted' });
  await t.rejects(runTool('true', [], { signal: ender.signal }), { message: 'no longer wanted' });
  await t.rejects(runTool('head', ['-c', '1000000', '/dev/zero'], { maxOutput: 1000 }), {
    message: /more than 1000/,
  });
  await t.rejects(runTool('sh', ['-c', 'echo why >&2; exit 3']), { message: /status 3: why/ });
  await t.rejects(runTool('sh', ['-c', 'kill -9 $$']), ToolError);
  t.equal((await runTool('cat', [], { input: Buffer.alloc(300_000, 'x') })).length, 300_000);
  t.equal(
    (await runTool('true', [], { input: Buffer.alloc(300_000) })).length,
    0,
    'not reading its input is no error',
  );
});
