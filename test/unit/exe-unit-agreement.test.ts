import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { parseAgreement, readAgreement } from '../../host/exe-unit/agreement.ts';
import { noRecordings } from '../lib/gsb-recordings.ts';

const FIXTURE = join(import.meta.dirname, '../../../shared/fixtures/gsb/ya-provider-agreement.json');

const FLAT = {
  agreementId: 'a1',
  demand: {
    requestorId: '0xab',
    properties: {
      'golem.srv.comp.payload': 'eyJ9',
      'golem.srv.comp.payload.sig': 's',
      'golem.srv.comp.task_package': 'hash:sha3:00:http://x/y.gvmi',
    },
  },
  offer: {
    properties: {
      'golem.com.usage.vector': ['golem.usage.cpu_sec', 'golem.usage.duration_sec'],
      'golem.inf.mem.gib': 2.5,
      'golem.inf.storage.gib': 10,
      'golem.inf.cpu.threads': 1,
      'golem.inf.cpu.vendor': 'GenuineIntel',
      'golem.runtime.capabilities': ['vpn'],
    },
  },
};

t.test('the agreement that the real provider wrote', { skip: noRecordings }, async (t) => {
  const agreement = await readAgreement(FIXTURE);
  t.strictSame(
    { ...agreement, limits: { ...agreement.limits } },
    {
      id: 'b4591579cef244683142a0a59b6038fbaa89d87657b58c65f2600005c4a7ce88',
      requestorId: '0xe86e1bfa3e86b293f679faa48f4b0159e8471949',
      usageVector: ['golem.usage.cpu_sec', 'golem.usage.duration_sec'],
      limits: {
        'cpu.cores': 2,
        'cpu.threads': 1,
        'mem.gib': 16.092196479439735,
        'storage.gib': 58.376895141601565,
      },
      taskPackage:
        'hash:sha3:023e5e885e0ce23e500aaf9a15e8034192b5b0ebeb1276682dfd1798:http://127.0.0.1:18002/img-x.gvmi',
      manifest: undefined,
      capabilities: ['vpn'],
    },
  );
});

t.test('flat, nested and mixed forms say the same', async (t) => {
  const flat = parseAgreement(FLAT);
  t.equal(flat.manifest, 'eyJ9', 'a value whose key others begin with');
  t.strictSame(
    { ...flat.limits },
    { 'mem.gib': 2.5, 'storage.gib': 10, 'cpu.threads': 1 },
    'texts are no limits',
  );
  const nested = {
    agreementId: 'a1',
    'demand.requestorId': '0xab',
    demand: {
      properties: {
        golem: {
          srv: {
            comp: {
              payload: { '@tag': 'eyJ9', sig: 's' },
              task_package: 'hash:sha3:00:http://x/y.gvmi',
            },
          },
        },
      },
    },
    offer: {
      properties: {
        golem: {
          com: { 'usage.vector': ['golem.usage.cpu_sec', 'golem.usage.duration_sec'] },
          inf: { 'mem.gib': 2.5, storage: { gib: { '@tag': 10, note: 'x' } }, cpu: { threads: 1 } },
          runtime: { capabilities: { '@tag': ['vpn'], more: 1 } },
        },
      },
    },
  };
  t.strictSame(parseAgreement(nested), flat);
});

t.test('optional parts', async (t) => {
  const { agreementId, offer } = FLAT;
  const bare = parseAgreement({
    agreementId,
    offer: { properties: { ...offer.properties, 'golem.runtime.capabilities': null } },
  });
  t.strictSame(bare.capabilities, []);
  t.equal(bare.taskPackage, undefined);
  t.equal(bare.requestorId, undefined);
});

t.test('whatever is wrong has a code and is named', async (t) => {
  const without = (key: string) => {
    const properties: Record<string, unknown> = { ...FLAT.offer.properties };
    delete properties[key];
    return { ...FLAT, offer: { properties } };
  };
  const withVector = (vector: unknown) => ({
    ...FLAT,
    offer: { properties: { ...FLAT.offer.properties, 'golem.com.usage.vector': vector } },
  });
  let deep: unknown = 1;
  for (let level = 0; level < 10_000; level++) deep = { x: deep };
  const bad: [unknown, RegExp][] = [
    [null, /object/],
    [[], /object/],
    ['x', /object/],
    [{}, /agreementId: missing/],
    [{ ...FLAT, agreementId: 5 }, /agreementId: the number 5/],
    [without('golem.com.usage.vector'), /usage.vector: missing/],
    [withVector('x'), /usage.vector: a text/],
    [withVector([1]), /usage.vector\[0\]/],
    [withVector(Array(1000).fill('x')), /more than 256/],
    [{ agreementId: 'a', offer: { properties: { 'golem.com.usage.vector': [] } } }, /golem.inf: missing/],
    [
      { agreementId: 'a', offer: { properties: { 'golem.com.usage.vector': [], 'golem.inf': 5 } } },
      /golem.inf: not an object/,
    ],
    [{ ...FLAT, deep }, /levels deep/],
    [{ ...FLAT, ['a.'.repeat(1000)]: 1 }, /segments/],
    [{ ...FLAT, demand: { properties: { 'golem.srv.comp.task_package': 5 } } }, /task_package: the number 5/],
  ];
  for (const [json, message] of bad)
    t.throws(() => parseAgreement(json), { code: 'YAVM_E_AGREEMENT', message });
});

t.test('files that are none', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'yavm-agreement-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'agreement.json');
  const code = 'YAVM_E_AGREEMENT';
  await t.rejects(readAgreement(path), { code, message: /cannot be read/ });
  await t.rejects(readAgreement(folder), { code });
  for (const text of ['', '{', 'agreementId: a', '\xff', '[]']) {
    writeFileSync(path, text);
    await t.rejects(readAgreement(path), { code });
  }
  writeFileSync(path, `{"x": "${'x'.repeat(9 * 1024 * 1024)}"}`);
  await t.rejects(readAgreement(path), { code, cause: { message: /more than/ } });
  writeFileSync(path, JSON.stringify(FLAT));
  t.equal((await readAgreement(path)).id, 'a1');
});

t.test('names of objects are only names', async (t) => {
  const json = JSON.parse(
    JSON.stringify(FLAT).replace('"golem.inf.mem.gib"', '"__proto__.mem":9,"golem.inf.__proto__.gib"'),
  );
  const agreement = parseAgreement(json);
  t.equal(({} as Record<string, unknown>).mem, undefined);
  t.equal(agreement.limits['__proto__.gib'], 2.5);
});
