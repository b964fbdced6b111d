/** `prepare`: what a snapshot has behind it, in which order, and that it happens once. */
import t from 'tap';
import type { Agent } from '../../guest/agent/agent.ts';
import { prepare } from '../../guest/agent/prepare.ts';
import { fakeNative, systemError } from '../lib/fake-native.ts';

const AUTOPROBE = '/sys/bus/virtio/drivers_autoprobe';

function fakeAgent(refuse?: string) {
  const order: string[] = [];
  const { native } = fakeNative(
    { '/sys/fs/cgroup/yavm/1': [] },
    {
      mount: (_source, target) => {
        order.push(`mount ${target}`);
      },
      writeText: (_root, path, text) => {
        order.push(`${path} ${text}`);
        if (path === refuse) throw systemError('EIO', 'write', path);
      },
      links: () => [],
    },
  );
  const modules = {
    loadWhereThere: (purpose: string) => order.push(`load ${purpose}`),
    buses: () => new Set(),
    loadAlias: () => [],
    rest: () => order.push('rest'),
  };
  const log = { warn: () => {}, debug: () => {}, info: () => {} };
  const agent = { native, modules, log, prepared: null, configuring: false } as unknown as Agent;
  return { agent, order };
}

t.test('file systems, drivers that hold back, all that tasks need, and then the lists go', async (t) => {
  const { agent, order } = fakeAgent();
  t.strictSame(await prepare(agent), {});
  t.ok(agent.prepared);
  const held = order.indexOf(`${AUTOPROBE} 0`);
  t.ok(
    held > 0 && order.slice(0, held).every((step) => !step.startsWith('load')),
    'held before any is loaded',
  );
  const loaded = order.filter((step) => step.startsWith('load '));
  for (const purpose of ['disks', 'layers', 'nics']) t.ok(loaded.includes(`load ${purpose}`), purpose);
  t.notOk(loaded.includes('load shares'), 'none for what no such VM has');
  t.notOk(order.some((step) => step === `${AUTOPROBE} 1`));
  t.equal(order.at(-1), 'rest');
});

t.test('once, and not after configure', async (t) => {
  const { agent, order } = fakeAgent();
  await prepare(agent);
  const steps = order.length;
  await t.rejects(prepare(agent), { code: 'already-configured' });
  const configuring = fakeAgent();
  configuring.agent.configuring = true;
  await t.rejects(prepare(configuring.agent), { code: 'already-configured' });
  t.equal(order.length, steps);
  t.strictSame(configuring.order, []);
});

t.test('a guest that cannot hold its drivers back is not prepared', async (t) => {
  const { agent, order } = fakeAgent(AUTOPROBE);
  await t.rejects(prepare(agent), { code: 'module-failed', errno: 'EIO' });
  t.notOk(agent.prepared);
  t.notOk(order.some((step) => step.startsWith('load')));
});
