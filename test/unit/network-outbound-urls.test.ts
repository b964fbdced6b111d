import t from 'tap';
import { isYavmError } from '../../host/lib/errors.ts';
import {
  formatRule,
  MAX_RULES,
  parseUrlRule,
  parseUrlRules,
} from '../../host/network/outbound/parse-urls.ts';

const RULES: readonly [url: string, rule: string][] = [
  ['http://example.com', 'tcp example.com:80'],
  ['https://example.com/path?query#part', 'tcp example.com:443'],
  ['HTTPS://user:word@Example.COM./', 'tcp example.com:443'],
  ['ws://example.com', 'tcp example.com:80'],
  ['wss://example.com', 'tcp example.com:443'],
  ['ftp://example.com', 'tcp example.com:21'],
  ['ssh://git@example.com', 'tcp example.com:22'],
  ['https://example.com:8443', 'tcp example.com:8443'],
  ['tcp://example.com:5000', 'tcp example.com:5000'],
  ['udp://example.com:5000', 'udp example.com:5000'],
  ['any+thing-1.0://example.com:5000', 'tcp example.com:5000'],
  ['http://93.184.216.34', 'tcp 93.184.216.34:80'],
  ['tcp://0x5db8d822:9', 'tcp 93.184.216.34:9'],
  ['udp://[2001:DB8:0::1]:53', 'udp [2001:db8::1]:53'],
  ['tcp://BÜCHER.example:1', 'tcp xn--bcher-kva.example:1'],
  ['tcp://_service.example:1', 'tcp _service.example:1'],
  ['postgres://user@db.example/table', 'tcp db.example:5432'],
];

t.test('URLs as rules', (t) => {
  for (const [url, rule] of RULES) t.equal(formatRule(parseUrlRule(url)), rule, url);
  t.end();
});

t.test('what is no rule is named', (t) => {
  const bad = [
    ...['example.com', 'example.com:80', '', '://x', 'http://', 'mailto:a@b.example', 'tcp://example.com'],
    ...['udp://example.com', 'what://example.com', 'tcp://example.com:0', 'tcp://example.com:65536'],
    ...['https://*.example.com', 'tcp://-a.example:1', 'tcp://a..example:1', 'tcp://256.1.1.1:1'],
    ...[`http://${'a'.repeat(64)}.example`, 'tcp://a%20b:1', 'tcp://[::1:1', 'udp:example.com:53'],
  ];
  for (const url of bad) {
    try {
      t.fail(`${url}: ${formatRule(parseUrlRule(url))}`);
    } catch (error) {
      t.ok(isYavmError(error, 'YAVM_E_NET_RULE'), url);
      t.match((error as Error).message, `'${url.slice(0, 200)}'`);
    }
  }
  t.end();
});

t.test('a rule is there once, and there are not too many', (t) => {
  t.equal(parseUrlRules(['http://a.example/1', 'http://A.example:80/2', 'https://a.example']).length, 2);
  const many = Array.from({ length: MAX_RULES + 1 }, (_, index) => `http://h${index}.example`);
  t.throws(() => parseUrlRules(many), { code: 'YAVM_E_NET_RULE' });
  t.equal(parseUrlRules(many.slice(1)).length, MAX_RULES);
  t.end();
});
