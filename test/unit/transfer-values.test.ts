import t from 'tap';
import { cacheName, isImageName, parseLocation, showUrl } from '../../host/transfer/location.ts';
import { TransferProgress } from '../../host/transfer/progress.ts';
import type { ProgressReport } from '../../host/transfer/types.ts';

const HEX = '9f'.repeat(28);
const URL_TEXT = 'http://host:8080/images/golem-alpine.gvmi';

t.test('locations with a hash are read as upstream reads them', async (t) => {
  const table: [text: string, algorithm: string, hex: string, url: string][] = [
    [`hash:sha3:${HEX}:${URL_TEXT}`, 'sha3-224', HEX, URL_TEXT],
    [`hash://sha3:0x${HEX}:${URL_TEXT}`, 'sha3-224', HEX, URL_TEXT],
    [`HASH:sha3:0X${HEX.toUpperCase()}:${URL_TEXT}`, 'sha3-224', HEX, URL_TEXT],
    [`  hash:sha3:${'a'.repeat(64)}:https://h/x  `, 'sha3-256', 'a'.repeat(64), 'https://h/x'],
    [`hash:sha3:${'b'.repeat(96)}:https://h/x`, 'sha3-384', 'b'.repeat(96), 'https://h/x'],
    [`hash:sha3:${'c'.repeat(128)}:gftp://0xab/cd`, 'sha3-512', 'c'.repeat(128), 'gftp://0xab/cd'],
    [`before hash:sha3:${HEX}:${URL_TEXT}`, 'sha3-224', HEX, URL_TEXT],
    [`hash:sha3:${HEX}:/golem/in`, 'sha3-224', HEX, 'container:/golem/in'],
  ];
  for (const [text, algorithm, hex, url] of table) {
    const location = parseLocation(text, 'container');
    t.strictSame(location.digest, { algorithm, hex }, text);
    t.equal(location.url.href, url, text);
  }
});

t.test('locations without a hash', async (t) => {
  t.strictSame(parseLocation(URL_TEXT, 'file').digest, null);
  t.equal(parseLocation('/a/b.gvmi', 'file').url.href, 'file:///a/b.gvmi');
  t.equal(parseLocation('/a/b c', 'container').url.protocol, 'container:');
  t.equal(parseLocation('container:/a', 'file').url.protocol, 'container:');
});

t.test('what is no location is refused with the text of the catalogue', async (t) => {
  const digest = { code: 'YAVM_E_UNSUPPORTED', message: /^Unsupported digest/ };
  const url = { code: 'YAVM_E_URL', message: /^Invalid url: / };
  const table: [text: string, error: { code: string; message: string | RegExp }][] = [
    ['', { code: 'YAVM_E_URL', message: 'Invalid url: Empty URL' }],
    [' \n', { code: 'YAVM_E_URL', message: 'Invalid url: Empty URL' }],
    ['hash:', url],
    ['hash:sha3:xyz:http://h/x', url],
    [`hash:sha3:${HEX}`, url],
    [`hash:sha3:${HEX}:`, url],
    ['http://', url],
    ['http://a b/', url],
    ['http://h:99999/', url],
    ['x'.repeat(70_000), url],
    [`hash:SHA3:${HEX}:http://h/x`, digest],
    [`hash:sha2:${HEX}:http://h/x`, digest],
    [`hash:sha3:${HEX.slice(1)}:http://h/x`, digest],
    ['hash:sha3:ab:http://h/x', digest],
  ];
  for (const [text, error] of table) {
    t.throws(() => parseLocation(text, 'file'), error, text.slice(0, 40));
  }
  try {
    parseLocation('http://user:secret@ bad/', 'file');
    t.fail('no error');
  } catch (error) {
    t.notMatch(String(error), 'secret');
  }
});

t.test('secrets of a URL are not shown', async (t) => {
  const url = new URL('https://user:secret@host:1/a/x.gvmi?X-Signature=secret#secret');
  t.equal(showUrl(url), 'https://host:1/a/x.gvmi?…');
  t.equal(showUrl(new URL('file:///a/b')), 'file:/a/b');
});

t.test('names in the cache are upstream’s, whatever the URL holds', async (t) => {
  const table: [path: string, name: string][] = [
    ['/golem-alpine.gvmi', `golem-alpine_${HEX}.gvmi`],
    ['/a/b/x.tar.gz?query=/y.z', `x.tar_${HEX}.gz`],
    ['/plain', `plain_${HEX}`],
    ['/', `_${HEX}`],
    ['', `_${HEX}`],
    ['/.hidden', `_hidden_${HEX}`],
    ['/..%2f..%2fetc%2fpasswd', `_._._${HEX}._etc_passwd`],
    ['/%2e%2e%2fx.gvmi', `_._x_${HEX}.gvmi`],
    ['/a%00b%0a.gvmi', `a_b__${HEX}.gvmi`],
    ['/bad%ff.gvmi', `bad_ff_${HEX}.gvmi`],
    ['/ä ö.gvmi', `____${HEX}.gvmi`],
    [`/${'n'.repeat(500)}.${'e'.repeat(500)}`, `${'n'.repeat(96)}_${HEX}.${'e'.repeat(16)}`],
    ['/x.', `x_${HEX}`],
  ];
  for (const [path, name] of table) {
    const result = cacheName(new URL(`http://host${path}`), { algorithm: 'sha3-224', hex: HEX });
    t.equal(result, name, path.slice(0, 40));
    t.match(result, /^[^./][^/]{0,200}$/, path.slice(0, 40));
    t.ok(isImageName(result), path.slice(0, 40));
  }
});

t.test('what is no image’s name', async (t) => {
  const short = HEX.slice(1);
  for (const name of [
    '',
    HEX,
    `_${short}`,
    `x_${HEX}0`,
    `x_${HEX.toUpperCase()}`,
    `.x_${HEX}`,
    `x_${HEX}.a.b`,
  ]) {
    t.notOk(isImageName(name), name);
  }
  for (const digits of [56, 64, 96, 128]) t.ok(isImageName(`x.y_${'a'.repeat(digits)}.gvmi`), `${digits}`);
});

function recorded(options?: ConstructorParameters<typeof TransferProgress>[1]) {
  const reports: ProgressReport[] = [];
  const clock = { now: 0 };
  const progress = new TransferProgress(
    (report) => reports.push(report),
    options,
    () => clock.now,
  );
  return { reports, clock, progress };
}

t.test('progress comes at once, then at intervals, and at the end', async (t) => {
  const { reports, clock, progress } = recorded();
  for (let bytes = 1; bytes <= 100; bytes++) {
    progress.update(bytes, 100);
    clock.now += 50;
  }
  progress.finish(100);
  t.strictSame(
    reports.map((report) => report.done),
    [1, 21, 41, 61, 81, 100],
  );
  t.strictSame(reports.at(-1), { done: 100, total: 100, unit: 'Bytes' });
});

t.test('progress keeps to interval and step of the command', async (t) => {
  const { reports, clock, progress } = recorded({ updateInterval: 10, updateStep: 30 });
  for (let bytes = 0; bytes <= 100; bytes += 10) {
    progress.update(bytes, null);
    clock.now += 5;
  }
  t.strictSame(
    reports.map((report) => report.done),
    [0, 30, 60, 90],
  );
  t.equal(reports[0]?.total, null);
});

t.test('messages repeat the last numbers; hostile options are ignored', async (t) => {
  const { reports, progress } = recorded({ updateInterval: Number.NaN, updateStep: -1 });
  progress.message('first');
  progress.update(5, 10);
  progress.update(6, 10);
  progress.message('again');
  t.strictSame(reports, [
    { message: 'first', done: 0, total: null, unit: 'Bytes' },
    { done: 5, total: 10, unit: 'Bytes' },
    { message: 'again', done: 6, total: 10, unit: 'Bytes' },
  ]);
});
