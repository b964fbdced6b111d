/** Signatures of driver layers: made, checked, and asked for before a VM gets one. */
import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  closeSync,
  copyFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { runProgram } from '../../host/cli/program.ts';
import { layerStatement } from '../../host/lib/signature.ts';
import { openDisks } from '../../host/runtime/vm-disks.ts';
import { testContext } from '../lib/cli.ts';
import { driverFiles, writeFiles } from '../lib/driver-files.ts';
import { writeKeys } from '../lib/signing-keys.ts';
import { sha256 } from '../lib/vm.ts';

const code = 'YAVM_E_KERNEL_SIGNATURE';
const folder = mkdtempSync(join(tmpdir(), 'yavm-layer-signatures-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
const file = (name: string) => join(folder, name);
writeFiles(file('source'), driverFiles('550.163.01'));
const mine = writeKeys(folder, 'mine');
const other = writeKeys(folder, 'other');

async function cli(...words: string[]): Promise<{ code: number; out: string; err: string }> {
  const context = testContext();
  context.env = { ...process.env };
  const code = await runProgram(['driver-layer', ...words], context);
  return { code, out: context.out(), err: context.err() };
}

async function build(name: string, ...words: string[]): Promise<string> {
  const made = await cli('build', file('source'), '-o', file(name), ...words);
  if (made.code !== 0) throw new Error(made.err);
  return file(name);
}

const disks = (layer: string, key?: string) =>
  openDisks({ layers: [], root: { ram: 1 }, driverLayer: layer }, undefined, key);
const openFiles = () => readdirSync('/proc/self/fd').length;

t.test('signed, and compared by verify', async (t) => {
  const layer = await build('a.squashfs', '--sign', mine.key);
  t.equal(readFileSync(`${layer}.sig`).length, 64);
  const verified = await cli('verify', layer, '--key', mine.trusted);
  t.equal(verified.code, 0, verified.err);
  t.match(verified.out, 'a.squashfs: as it was signed');
  t.same(JSON.parse((await cli('verify', layer, '--key', mine.trusted, '--json')).out), {
    file: layer,
    signed: true,
  });
  t.match((await cli('verify', layer, '--key', other.trusted)).err, /not the trusted key's.*YAVM_E_KERNEL/s);
  t.match((await cli('verify', layer, '--key', file('none'))).err, /no public key in PEM/);
  t.match((await cli('build', file('source'), '--sign', mine.trusted)).err, /no private key in PEM/);

  const bytes = readFileSync(layer);
  appendFileSync(layer, 'x');
  t.match((await cli('verify', layer, '--key', mine.trusted)).err, code);
  writeFileSync(
    layer,
    bytes.map((byte, at) => (at === 200 ? byte ^ 1 : byte)),
  );
  t.match((await cli('verify', layer, '--key', mine.trusted)).err, code, 'one bit');
  rmSync(layer);
  t.match((await cli('verify', layer, '--key', mine.trusted)).err, /cannot be read/);
});

const skip = existsSync('/usr/bin/openssl') ? false : 'needs openssl';
t.test('openssl says the same', { skip }, async (t) => {
  const layer = await build('openssl.squashfs', '--sign', mine.key);
  const bytes = readFileSync(layer);
  const text = `ya-vm driver layer\nsize ${bytes.length}\nsha256 ${sha256(bytes)}\n`;
  t.equal(Buffer.from(await layerStatement(layer)).toString(), text);
  writeFileSync(file('text'), text);
  const words = ['-verify', '-pubin', '-inkey', mine.trusted, '-rawin', '-in', file('text')];
  t.match(execFileSync('openssl', ['pkeyutl', ...words, '-sigfile', `${layer}.sig`]).toString(), /Success/i);
});

t.test('a build without a key takes the signature of before away', async (t) => {
  const layer = await build('again.squashfs', '--sign', mine.key);
  await build('again.squashfs');
  t.notOk(existsSync(`${layer}.sig`));
  t.match((await cli('verify', layer, '--key', mine.trusted)).err, /the driver layer is not signed/);
});

t.test('a VM gets only what the trusted key has signed', async (t) => {
  const layer = await build('signed.squashfs', '--sign', mine.key);
  const [disk] = await disks(layer, mine.trusted);
  t.equal(readSync(disk?.fd as number, Buffer.alloc(4)), 4, 'QEMU reads it from its beginning');
  closeSync(disk?.fd as number);
  const before = openFiles();
  await t.rejects(disks(layer, other.trusted), { code });
  await t.rejects(disks(layer, file('none')), { code, message: /no public key/ });
  const plain = await build('plain.squashfs');
  await t.rejects(disks(plain, mine.trusted), { code, message: /plain\.squashfs\.sig: .*not signed/ });
  copyFileSync(`${layer}.sig`, `${plain}.sig`);
  appendFileSync(plain, 'x');
  await t.rejects(disks(plain, mine.trusted), { code }, 'the signature of another');
  writeFileSync(`${plain}.sig`, '');
  await t.rejects(disks(plain, mine.trusted), { code });
  t.equal(openFiles(), before, 'nothing stays open');
  for (const { fd } of await disks(plain)) closeSync(fd);
});
