import t from 'tap';
import { formatGsbUrl, parseGsbUrl } from '../../host/gsb/address.ts';
import type { GsbAddress } from '../../host/gsb/types.ts';

const unix = (path: string): GsbAddress => ({ kind: 'unix', path });
const tcp = (host: string, port: number): GsbAddress => ({ kind: 'tcp', host, port });

const GOOD: [string | undefined, GsbAddress][] = [
  [undefined, unix('/tmp/yagna.sock')],
  ['unix:/a/b', unix('/a/b')],
  ['unix:///a/b', unix('/a/b')],
  ['unix:/a%20b/%C3%A9', unix('/a b/é')],
  ['tcp://127.0.0.1:1234', tcp('127.0.0.1', 1234)],
  ['tcp://127.0.0.1', tcp('127.0.0.1', 7464)],
  ['tcp://node.local:80', tcp('node.local', 80)],
  ['tcp://[::1]:99', tcp('::1', 99)],
  ['10.0.0.1:1234', tcp('10.0.0.1', 1234)],
];

const BAD = [
  'localhost:1234',
  'http://127.0.0.1:7464',
  'unix:relative',
  'unix://host/a',
  'unix:/a%',
  'unix:/a%00b',
  'tcp://',
  'tcp://h:99999',
  '',
];

t.test('GSB_URL as upstream reads it', async (t) => {
  for (const [url, address] of GOOD) {
    t.same(parseGsbUrl(url), address, `${url}`);
    t.same(parseGsbUrl(formatGsbUrl(address)), address, `${url} again`);
  }
  for (const path of ['/with ?#%', '/ü']) t.same(parseGsbUrl(formatGsbUrl(unix(path))), unix(path));
});

t.test('others are refused, with the two forms that are not', async (t) => {
  for (const url of BAD)
    t.throws(() => parseGsbUrl(url), { code: 'YAVM_E_GSB_URL', hint: /unix:.*tcp:/ }, url);
});
