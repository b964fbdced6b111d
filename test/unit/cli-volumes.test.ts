/** `--volume` and `--tmpfs`: docker's spelling, and what it cannot mean. */
import { resolve } from 'node:path';
import t, { type Test } from 'tap';
import { parseTmpfs, parseVolume, withImageVolumes } from '../../host/cli/volumes.ts';

const MIB = 1024 ** 2;

function refuses(t: Test, parse: (text: string) => unknown, texts: readonly string[]): void {
  for (const text of texts) t.throws(() => parse(text), { code: 'YAVM_E_USAGE' }, JSON.stringify(text));
}

t.test('folders', async (t) => {
  const cases: [string, object][] = [
    ['/a:/b', { hostPath: '/a', path: '/b' }],
    ['/a:/b:rw', { hostPath: '/a', path: '/b' }],
    ['/a:/b/./c/:ro', { hostPath: '/a', path: '/b/c', readOnly: true }],
    ['data:/b', { hostPath: resolve('data'), path: '/b' }],
    ['..:/b', { hostPath: resolve('..'), path: '/b' }],
    ['/a:b c/d:/e:ro', { hostPath: '/a:b c/d', path: '/e', readOnly: true }],
  ];
  for (const [text, expected] of cases) t.strictSame(parseVolume(text), expected, text);
  const more = ['/a:/b:rx', '/a:/b:z', '/a:/', '/a:/b/../c', '/a:/b\0'];
  refuses(t, parseVolume, ['', ':', '/a', '/a:', ':/b', 'a:b', ...more]);
});

t.test('memory', async (t) => {
  const cases: [string, object][] = [
    ['/t', { path: '/t' }],
    ['/t:64M', { path: '/t', size: 64 * MIB }],
    ['/t:64MB', { path: '/t', size: 64_000_000 }],
    ['/t:1', { path: '/t', size: 4096 }],
    ['/t:rw,noexec,nosuid,size=65536k', { path: '/t', size: 64 * MIB, noExec: true, noSuid: true }],
    ['/t:size=1GiB,mode=0700', { path: '/t', size: 1024 * MIB, mode: 0o700 }],
  ];
  for (const [text, expected] of cases) t.strictSame(parseTmpfs(text), expected, text);
  const options = ['/t:x', '/t:size', '/t:size=0', '/t:mode=8', '/t:mode=17777', '/t:uid=5'];
  refuses(t, parseTmpfs, ['', 't', '/', '/t:', ...options]);
});

t.test("an image's volumes, where nothing else is asked for", async (t) => {
  const volumes = {
    shares: [{ hostPath: '/h', path: '/a' }],
    mounts: [{ kind: 'ram' as const, path: '/b', size: MIB }],
  };
  t.strictSame(withImageVolumes(['/a', '/b', '/c', '/'], volumes), [
    { kind: 'directory', path: '/c' },
    { kind: 'ram', path: '/b', size: MIB },
  ]);
});
