/** Signatures of kernels and initramfs: made, checked, and asked for before a VM boots. */
import { generateKeyPairSync } from 'node:crypto';
import { appendFileSync, copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { gzipSync } from 'node:zlib';
import { Command } from 'commander';
import t from 'tap';
import { readAssets } from '../../host/cli/vm-options.ts';
import { bootFiles } from '../../host/lib/kernel-set.ts';
import { signingKey } from '../../host/lib/signature.ts';
import { buildInitramfs } from '../../initramfs/build.ts';
import { registerInitramfs } from '../../initramfs/cli.ts';
import { openKernelFiles } from '../../initramfs/kernel/source.ts';
import { MODULES } from '../../initramfs/modules/table.ts';
import { makeBzImage, makeElf, makeVmlinux, RELEASE, writeTree } from '../lib/kernel-fixture.ts';
import { writeKeys } from '../lib/signing-keys.ts';

const code = 'YAVM_E_KERNEL_SIGNATURE';
const folder = mkdtempSync(join(tmpdir(), 'ya-vm-test-'));
t.teardown(() => rmSync(folder, { recursive: true }));

const mine = writeKeys(folder, 'mine');
const other = writeKeys(folder, 'other');

/** Builds a fixture's kernel, signed or not. */
async function build(name: string, key?: string): Promise<{ kernel: string; initramfs: string; at: string }> {
  const modules = join('root/lib/modules', RELEASE);
  writeTree(folder, {
    'root/boot/vmlinuz': makeBzImage(gzipSync(makeVmlinux())),
    [join(modules, 'modules.dep')]: MODULES.map((each) => `k/${each.name}.ko:\n`).join(''),
    [join(modules, 'modules.builtin')]: '',
    ...Object.fromEntries(
      MODULES.map((each) => [join(modules, `k/${each.name}.ko`), makeElf({ load: Buffer.from(each.name) })]),
    ),
  });
  const at = join(folder, name);
  const outputs = {
    vmlinux: join(at, 'vmlinux'),
    initramfs: join(at, 'initramfs.cpio.zst'),
    manifest: join(at, 'manifest.json'),
  };
  await buildInitramfs({
    kernel: await openKernelFiles({
      kernel: join(folder, 'root/boot/vmlinuz'),
      modules: join(folder, 'root'),
    }),
    init: makeElf({ load: Buffer.from('agent') }),
    outputs,
    version: '1.2.3',
    sign: key === undefined ? undefined : signingKey(key),
  });
  return { kernel: outputs.vmlinux, initramfs: outputs.initramfs, at };
}

t.test('what is to boot must be signed by the key that is trusted, every byte of it', async (t) => {
  const signed = await build('signed', mine.key);
  const env = { YA_VM_KERNEL_KEY: mine.trusted };
  const boots = () => readAssets(signed.kernel, signed.initramfs, env);
  t.equal(readFileSync(join(signed.at, 'manifest.json.sig')).length, 64);
  t.equal(boots().kernel, signed.kernel);
  t.equal(bootFiles({ ...env, YAVM_ASSETS: signed.at }).kernel, signed.kernel, 'and what YAVM_ASSETS names');

  const plain = await build('plain');
  t.throws(() => readAssets(plain.kernel, plain.initramfs, env), { code, message: /is not signed/ });
  t.throws(() => bootFiles({ ...env, YAVM_ASSETS: plain.at }), { code });
  t.equal(readAssets(plain.kernel, plain.initramfs, {}).kernel, plain.kernel, 'nobody asks for a signature');
  t.throws(() => readAssets(signed.kernel, signed.initramfs, { YA_VM_KERNEL_KEY: other.trusted }), {
    code,
    message: /not the trusted key's/,
  });

  const kept = readFileSync(signed.initramfs);
  appendFileSync(signed.initramfs, 'x');
  t.throws(boots, { code, message: /not what the signed manifest describes/ });
  writeFileSync(
    signed.initramfs,
    kept.map((byte, at) => (at === 100 ? byte ^ 1 : byte)),
  );
  t.throws(boots, { code }, 'one bit');
  writeFileSync(signed.initramfs, kept);
  t.ok(boots());
  const another = await build('another', other.key);
  for (const file of ['vmlinux', 'initramfs.cpio.zst', 'manifest.json', 'manifest.json.sig'])
    copyFileSync(join(another.at, file), join(signed.at, file));
  t.throws(boots, { code }, 'all of it replaced by what somebody else has signed');
});

t.test('a build without a key takes the signature of before away', async (t) => {
  const { at } = await build('again', mine.key);
  await build('again');
  t.throws(() => readFileSync(join(at, 'manifest.json.sig')), { code: 'ENOENT' });
});

t.test('keys that are none', async (t) => {
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const path = join(folder, 'rsa.pem');
  writeFileSync(path, rsa.privateKey.export({ type: 'pkcs8', format: 'pem' }));
  t.throws(() => signingKey(path), { code, message: /a key for rsa/ });
  t.throws(() => signingKey(mine.trusted), { code, message: /no private key in PEM/ });
  t.throws(() => signingKey(join(folder, 'none')), { code, hint: /openssl genpkey/ });
});

t.test('ya-vm initramfs verify', async (t) => {
  const { at, initramfs } = await build('verified', mine.key);
  const said: string[] = [];
  const stdout = new PassThrough();
  stdout.on('data', (text: Buffer) => said.push(text.toString()));
  const verify = async (...words: string[]) => {
    const command = new Command().exitOverride();
    let result: Promise<number> | undefined;
    registerInitramfs(
      command,
      (each, action) =>
        each.action(() => {
          result = action({ stdout, stderr: stdout }, each.opts(), each.processedArgs);
        }),
      { folder: at, cache: folder, version: '1.2.3' },
    );
    command.parse(['verify', ...words], { from: 'user' });
    return result;
  };
  t.equal(await verify(at, '--key', mine.trusted), 0);
  t.match(said.join(''), 'as it was signed');
  t.equal(await verify(initramfs, '--key', mine.trusted, '--json'), 0);
  await t.rejects(verify(at, '--key', other.trusted), { code });
  appendFileSync(initramfs, 'x');
  await t.rejects(verify(at, '--key', mine.trusted), { code, message: /not what the signed manifest/ });
});
