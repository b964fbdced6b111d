import type { LookupAddress } from 'node:dns';
import type { LookupFunction } from 'node:net';
import t from 'tap';
import { checkAddress, checkedLookup, policyFrom } from '../../host/transfer/http-policy.ts';
import { bareHost } from '../../host/transfer/http-proxy.ts';
import { get, TIMEOUTS } from '../../host/transfer/http-request.ts';
import { startServer } from '../lib/http-server.ts';

const DEFAULT = policyFrom({});
const CLOSED = policyFrom({ YA_VM_TRANSFER_PRIVATE: 'deny' });
const OPEN = policyFrom({ YA_VM_TRANSFER_LINK_LOCAL: 'allow' });

/** Whether an address is reached by default, with private ones denied, with link-local ones allowed. */
type Verdicts = [byDefault: boolean, closed: boolean, open: boolean];
const PUBLIC: Verdicts = [true, true, true];
const PRIVATE: Verdicts = [true, false, true];
const LINK_LOCAL: Verdicts = [false, false, true];
const NEVER: Verdicts = [false, false, false];

/** Hosts of URLs, in every spelling that `net.connect` gets to see as an address. */
const HOSTS: readonly [host: string, verdicts: Verdicts][] = [
  ['93.184.216.34', PUBLIC],
  ['169.253.255.255', PUBLIC],
  ['[2606:2800:220:1::1]', PUBLIC],
  ['[64:ff9b::5db8:d822]', PUBLIC],
  ['127.0.0.1', PRIVATE],
  ['127.1', PRIVATE],
  ['0x7f.1', PRIVATE],
  ['2130706433', PRIVATE],
  ['0177.0.0.1', PRIVATE],
  ['10.1.2.3', PRIVATE],
  ['172.16.0.1', PRIVATE],
  ['172.32.0.1', PUBLIC],
  ['192.168.1.1', PRIVATE],
  ['100.64.0.1', PRIVATE],
  ['[::1]', PRIVATE],
  ['[::ffff:127.0.0.1]', PRIVATE],
  ['[::ffff:0:127.0.0.1]', PRIVATE],
  ['[fd12:3456::1]', PRIVATE],
  ['[64:ff9b::10.0.0.1]', PRIVATE],
  ['[2002:a00:1::1]', PRIVATE],
  ['169.254.169.254', LINK_LOCAL],
  ['169.254.169.254.', LINK_LOCAL],
  ['169.254.43518', LINK_LOCAL],
  ['169.16689662', LINK_LOCAL],
  ['2852039166', LINK_LOCAL],
  ['0xa9fea9fe', LINK_LOCAL],
  ['0xA9.0xFE.0xA9.0xFE', LINK_LOCAL],
  ['0251.0376.0251.0376', LINK_LOCAL],
  ['0251.254.0xa9.254', LINK_LOCAL],
  ['%31%36%39.254.169.254', LINK_LOCAL],
  ['169%2e254%2E169.254', LINK_LOCAL],
  ['１６９.254.169.254', LINK_LOCAL],
  ['①⑥⑨.254.169.254', LINK_LOCAL],
  ['169。254。169。254', LINK_LOCAL],
  ['[::ffff:169.254.169.254]', LINK_LOCAL],
  ['[::ffff:a9fe:a9fe]', LINK_LOCAL],
  ['[0:0:0:0:0:ffff:a9fe:a9fe]', LINK_LOCAL],
  ['[64:ff9b::a9fe:a9fe]', LINK_LOCAL],
  ['[64:ff9b:1::a9fe:a9fe]', LINK_LOCAL],
  ['[2002:a9fe:a9fe::]', LINK_LOCAL],
  ['[fe80::1]', LINK_LOCAL],
  ['[febf:ffff::1]', LINK_LOCAL],
  ['[fd00:ec2::254]', LINK_LOCAL],
  ['[fd20:ce::254]', LINK_LOCAL],
  ['100.100.100.200', LINK_LOCAL],
  ['168.63.129.16', LINK_LOCAL],
  ['0', NEVER],
  ['0.0.0.0', NEVER],
  ['0.1.2.3', NEVER],
  ['[::]', NEVER],
  ['[::ffff:0.0.0.0]', NEVER],
  ['224.0.0.1', NEVER],
  ['255.255.255.255', NEVER],
  ['240.0.0.1', NEVER],
  ['[ff02::1]', NEVER],
];

t.test('addresses in every spelling', async (t) => {
  for (const [host, verdicts] of HOSTS) {
    const url = new URL(`http://${host}/x?secret`);
    for (const [index, policy] of [DEFAULT, CLOSED, OPEN].entries()) {
      const check = () => checkAddress(bareHost(url), policy, 'http://shown/');
      if (verdicts[index]) t.doesNotThrow(check, `${host} ${index}`);
      else
        t.throws(check, { code: 'YAVM_E_URL_REFUSED', message: /^http:\/\/shown\/: / }, `${host} ${index}`);
    }
  }
});

t.test('addresses as look-ups return them', async (t) => {
  for (const address of ['fe80::1%eth0', 'fe80::1%2']) {
    t.throws(() => checkAddress(address, DEFAULT, 'x'), { code: 'YAVM_E_URL_REFUSED' });
  }
});

t.test('only "allow" allows', async (t) => {
  const table: [value: string | undefined, linkLocal: boolean, isPrivate: boolean][] = [
    [undefined, false, true],
    ['allow', true, true],
    ['deny', false, false],
    ['Allow', false, false],
    ['1', false, false],
    ['', false, false],
  ];
  for (const [value, linkLocal, isPrivate] of table) {
    const env = { YA_VM_TRANSFER_LINK_LOCAL: value, YA_VM_TRANSFER_PRIVATE: value };
    t.strictSame(policyFrom(env), { linkLocal, private: isPrivate }, `${value}`);
  }
});

const signal = new AbortController().signal;

t.test('nothing is sent to a refused address, named or spelled', async (t) => {
  const { origin, requests } = await startServer(t, (_, response) => response.end('secret'));
  const settings = { timeouts: TIMEOUTS, signal, env: {}, policy: CLOSED };
  for (const host of ['127.0.0.1', 'localhost', '0x7f.0.0.1', '[::ffff:7f00:1]']) {
    const url = new URL(`http://${host}:${new URL(origin).port}/x`);
    await t.rejects(get(url, {}, settings), { code: 'YAVM_E_URL_REFUSED' }, host);
  }
  t.equal(requests.length, 0);
  const { body } = await get(new URL(origin), {}, { ...settings, policy: null });
  body.destroy();
});

t.test('a redirect is checked as the URL is', async (t) => {
  const targets = ['http://169.254.169.254/meta', 'http://[::ffff:a9fe:a9fe]/', '//2852039166/', 'http://0/'];
  const { origin } = await startServer(t, (request, response) => {
    response.writeHead(302, { location: targets[Number(request.url?.slice(1))] }).end();
  });
  for (const index of targets.keys()) {
    const settings = { timeouts: TIMEOUTS, signal, env: {} };
    await t.rejects(get(new URL(`${origin}/${index}`), {}, settings), { code: 'YAVM_E_URL_REFUSED' });
  }
});

/** Answers each look-up with the next of `answers`. */
function scripted(answers: (string | LookupAddress[])[]): LookupFunction {
  return (_, options, callback) => {
    const answer = answers.shift() ?? [];
    const list = typeof answer === 'string' ? [{ address: answer, family: 4 }] : answer;
    if (options.all) callback(null, list);
    else callback(null, list[0]?.address ?? '', 4);
  };
}

t.test('a name is checked by the address that is connected to, each time', async (t) => {
  const { origin, requests } = await startServer(t, (_, response) => response.end('ok'));
  const url = new URL(`http://rebinding.example:${new URL(origin).port}/`);
  const lookup = scripted([
    '127.0.0.1',
    '169.254.169.254',
    [
      { address: '127.0.0.1', family: 4 },
      { address: 'fe80::1', family: 6 },
    ],
  ]);
  const ask = async () => {
    const { body } = await get(url, {}, { timeouts: TIMEOUTS, signal, env: {}, lookup });
    body.destroy();
  };
  await ask();
  const refused = { code: 'YAVM_E_URL_REFUSED', message: /rebinding\.example:\d+\/: 169\.254\.169\.254 is/ };
  await t.rejects(ask(), refused);
  await t.rejects(ask(), { code: 'YAVM_E_URL_REFUSED', message: /fe80::1 is/ }, 'one of several');
  t.equal(requests.length, 1);
});

t.test('a look-up that fails says so', async (t) => {
  const failure = Object.assign(new Error('queryA ENOTFOUND'), { code: 'ENOTFOUND' });
  const failing: LookupFunction = (_host, _options, callback) => callback(failure, '', 4);
  checkedLookup(DEFAULT, 'x', failing)('name', {}, (error) => t.equal(error, failure));
});
