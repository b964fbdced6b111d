import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, lstatSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import t from 'tap';
import { type Logger, silentLogger } from '../../host/lib/logger.ts';
import { placeOf } from '../../host/network/vpn/siblings-lock.ts';
import { cleanUp } from '../../host/runtime/janitor.ts';
import { loadNative } from '../../native/load.ts';
import { count } from '../lib/scale.ts';
import { keyOf, openSibling, type SiblingOptions, type TestSibling, until } from '../lib/sibling.ts';
import { arpFrame, ipv4Frame, ipv6Frame } from '../lib/sibling-frames.ts';

type Test = { teardown(fn: () => void | Promise<void>): void };

const PROCESS = join(import.meta.dirname, '../lib/sibling-process.ts');

function folderOf(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'yavm-siblings-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

function open(t: Test, folder: string, address: string | string[], options?: SiblingOptions): TestSibling {
  const sibling = openSibling(folder, address, options);
  t.teardown(() => sibling.siblings.close());
  return sibling;
}

const role = (sibling: TestSibling) => sibling.siblings.role;
const address = (index: number) => `10.5.0.${index + 2}`;

/** Opens them one after the other; the first is the owner, and all know each other in the end. */
async function family(t: Test, folder: string, size: number): Promise<TestSibling[]> {
  const all: TestSibling[] = [];
  for (let index = 0; index < size; index++) {
    const sibling = open(t, folder, address(index));
    all.push(sibling);
    await until(() => role(sibling) !== 'waiting', 'a role');
  }
  await until(() => all.every(({ siblings }) => siblings.local.size === size - 1), 'all to know each other');
  return all;
}

for (const size of [2, 4, 8]) {
  t.test(`${size} VMs: one owns, frames go where they are meant for`, async (t) => {
    const folder = folderOf(t);
    const all = await family(t, folder, size);
    t.strictSame(all.map(role), ['owner', ...new Array(size - 1).fill('sibling')]);
    t.strictSame(
      all.map(({ roles }) => roles),
      all.map((each) => [role(each)]),
      'each was told once',
    );
    for (const [from, sender] of all.entries()) {
      for (let to = 0; to < size; to++) {
        t.equal(sender.siblings.has(keyOf(address(to))), from !== to);
        t.equal(sender.send(address(to), ipv4Frame(address(from), address(to))), from !== to);
      }
      sender.broadcast(arpFrame(address(from), '10.5.0.250'));
    }
    await until(() => all.every(({ frames }) => frames.length >= 2 * (size - 1)), 'the frames');
    for (const [at, { frames }] of all.entries()) {
      const others = Array.from({ length: size }, (_, from) => from).filter((from) => from !== at);
      const expected = others.flatMap((from) => [
        ipv4Frame(address(from), address(at)),
        arpFrame(address(from), '10.5.0.250'),
      ]);
      const texts = (list: Uint8Array[]) => list.map((each) => Buffer.from(each).toString('hex')).sort();
      t.strictSame(texts(frames), texts(expected));
    }
    const [owner] = all as [TestSibling];
    t.strictSame(owner.siblings.dropped, { room: 0, source: 0, gone: 0 });
  });
}

t.test('the files are private, and go with the last one', async (t) => {
  const folder = folderOf(t);
  const all = await family(t, folder, 2);
  const names = readdirSync(folder).sort();
  t.equal(names.length, 2);
  t.match(names[0], /^net-[\w-]{20}\.lock$/);
  t.match(names[1], /^net-[\w-]{20}\.sock$/);
  await until(() => names.every((name) => (lstatSync(join(folder, name)).mode & 0o777) === 0o600), '0600');
  t.strictSame(cleanUp(folder, loadNative(), silentLogger), [], 'the janitor has nothing to remove');
  t.strictSame(readdirSync(folder).sort(), names);
  for (const { siblings } of all.reverse()) await siblings.close();
  t.strictSame(readdirSync(folder), []);
});

t.test('a network id, a requestor and a node have nothing to do with others', async (t) => {
  const folder = folderOf(t);
  const first = open(t, folder, '10.5.0.2');
  const others = [
    open(t, folder, '10.5.0.3', { networkId: 'another' }),
    open(t, folder, '10.5.0.4', { requestorId: `0x${'3'.repeat(40)}` }),
    open(t, folder, '10.5.0.5', { nodeId: `0x${'4'.repeat(40)}` }),
  ];
  for (const each of [first, ...others]) await until(() => role(each) === 'owner', 'each to own');
  first.broadcast(arpFrame('10.5.0.2', '10.5.0.3'));
  const same = open(t, folder, '10.5.0.6');
  await until(() => role(same) === 'sibling', 'one of the same');
  first.broadcast(arpFrame('10.5.0.2', '10.5.0.6'));
  await until(() => same.frames.length === 1, 'the frame');
  t.ok(others.every(({ frames, siblings }) => frames.length === 0 && siblings.local.size === 0));
  const setup = { folder, nodeId: '0xA', requestorId: '0xb', networkId: 'n', addresses: [] };
  t.strictSame(placeOf(setup), placeOf({ ...setup, nodeId: '0xa' }), 'the case of a node id does not matter');
  t.notSame(placeOf({ ...setup, requestorId: 'b","n' }), placeOf({ ...setup, networkId: '","n' }));
});

t.test('changes of the table reach all siblings, whole and in order', async (t) => {
  const all = await family(t, folderOf(t), 3);
  const [owner, ...siblings] = all as [TestSibling, TestSibling, TestSibling];
  owner.siblings.change({ kind: 'add', nodes: { '10.5.0.77': `0x${'7'.repeat(40)}` } });
  owner.siblings.change({ kind: 'remove', nodeIds: [`0x${'7'.repeat(40)}`] });
  // Nobody has looked at what a requestor sends: who applies it does.
  owner.siblings.change({ kind: 'learn', nodes: { 'no address': 'no id' } });
  const many = Object.fromEntries(
    Array.from({ length: 3000 }, (_, index) => [`10.6.${index >> 8}.${index & 255}`, `0x${'8'.repeat(40)}`]),
  );
  owner.siblings.change({ kind: 'add', nodes: many });
  siblings[0]?.siblings.change({ kind: 'remove', nodeIds: ['0x1'] });
  await until(() => siblings.every(({ changes }) => changes.length === 6), 'the changes');
  for (const { changes } of siblings) {
    t.strictSame(changes.slice(0, 3), [
      { kind: 'add', nodes: { '10.5.0.77': `0x${'7'.repeat(40)}` } },
      { kind: 'remove', nodeIds: [`0x${'7'.repeat(40)}`] },
      { kind: 'learn', nodes: { 'no address': 'no id' } },
    ]);
    t.strictSame(
      Object.assign({}, ...changes.slice(3).map((change) => (change.kind === 'add' ? change.nodes : {}))),
      many,
    );
  }
  t.strictSame(owner.changes, []);
});

t.test('when the owner leaves, one follows and the others come to it', async (t) => {
  const rounds = count(40);
  const folder = folderOf(t);
  const all = await family(t, folder, 4);
  for (let round = 0; round < rounds; round++) {
    const owner = all.find((each) => role(each) === 'owner') as TestSibling;
    const rest = all.filter((each) => each !== owner);
    for (const each of rest) each.polls = 0;
    await owner.siblings.close();
    await until(
      () =>
        rest.filter((each) => role(each) === 'owner').length === 1 &&
        rest.every((each) => role(each) !== 'waiting'),
      'one of them to own',
    );
    await until(() => rest.every(({ siblings }) => siblings.local.size === rest.length - 1), 'the others');
    t.ok(
      rest.every(({ polls }) => polls <= 5),
      `attempts: ${rest.map(({ polls }) => polls)}`,
    );
    const [a, b] = rest as [TestSibling, TestSibling];
    const [from, to] = [a, b].map((each) => address(all.indexOf(each))) as [string, string];
    const before = b.frames.length;
    t.ok(a.send(to, ipv4Frame(from, to)));
    await until(() => b.frames.length === before + 1, 'a frame by way of the new owner');
    // Who left comes back as a sibling, with the same address.
    all[all.indexOf(owner)] = open(t, folder, address(all.indexOf(owner)));
    await until(() => all.every(({ siblings }) => siblings.local.size === 3), 'it to come back');
  }
});

t.test('when the owner is killed, one follows', async (t) => {
  const folder = folderOf(t);
  const rounds = count(20);
  for (let round = 0; round < rounds; round++) {
    const child = spawn(process.execPath, [PROCESS, folder, '10.5.0.100'], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    t.teardown(() => void child.kill('SIGKILL'));
    const lines = createInterface({ input: child.stdout });
    t.strictSame(await once(lines, 'line'), ['owner']);
    const all = [open(t, folder, '10.5.0.2'), open(t, folder, '10.5.0.3')];
    await until(() => all.every((each) => role(each) === 'sibling'), 'siblings of the process');
    await until(() => all.every(({ siblings }) => siblings.local.size === 2), 'all addresses');
    for (const each of all) each.polls = 0;
    child.kill('SIGKILL');
    await until(() => all.map(role).sort().join() === 'owner,sibling', 'a new owner');
    await until(() => all.every(({ siblings }) => siblings.local.size === 1), 'the one that is left');
    t.ok(
      all.every(({ polls }) => polls <= 5),
      `attempts: ${all.map(({ polls }) => polls)}`,
    );
    for (const { siblings } of all) await siblings.close();
    t.strictSame(readdirSync(folder), []);
  }
});

t.test('a sibling that is killed is forgotten, and its address is free', async (t) => {
  const folder = folderOf(t);
  const owner = open(t, folder, '10.5.0.2');
  await until(() => role(owner) === 'owner', 'the owner');
  const child = spawn(process.execPath, [PROCESS, folder, '10.5.0.3'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  t.teardown(() => void child.kill('SIGKILL'));
  await until(() => owner.siblings.local.has('10.5.0.3'), 'the process');
  child.kill('SIGKILL');
  await until(() => owner.siblings.local.size === 0, 'it to be forgotten');
  t.notOk(owner.send('10.5.0.3', ipv4Frame('10.5.0.2', '10.5.0.3')));
});

t.test('what a killed owner left of another network is removed by the next who opens any', async (t) => {
  const folder = folderOf(t);
  const child = spawn(process.execPath, [PROCESS, folder, '10.5.0.2'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  await once(createInterface({ input: child.stdout }), 'line');
  await until(() => readdirSync(folder).length === 2, 'its files');
  child.kill('SIGKILL');
  await once(child, 'exit');
  const living = open(t, folder, '10.5.0.2', { networkId: 'living' });
  await until(() => role(living) === 'owner', 'another network');
  const left = readdirSync(folder).filter((name) => name.endsWith('.lock'));
  t.equal(left.length, 1, 'the dead one is gone');
  writeFileSync(join(folder, 'net-something-else'), '');
  const third = open(t, folder, '10.5.0.2', { networkId: 'third' });
  await until(() => role(third) === 'owner', 'a third network');
  t.ok(
    left.every((name) => existsSync(join(folder, name))),
    'the living one is not',
  );
  t.ok(existsSync(join(folder, 'net-something-else')));
});

t.test('an address that is taken is refused, and had when it is free', async (t) => {
  const folder = folderOf(t);
  const warnings: object[] = [];
  const logger: Logger = {
    ...silentLogger,
    warn: (fields: object | string) => void warnings.push(Object(fields)),
    child: () => logger,
  };
  const owner = open(t, folder, '10.5.0.2');
  await until(() => role(owner) === 'owner', 'the owner');
  const first = open(t, folder, '10.5.0.3');
  await until(() => role(first) === 'sibling', 'the first');
  const second = open(t, folder, '10.5.0.3', { logger });
  await until(() => second.roles.length === 1, 'an answer');
  t.equal(role(second), 'waiting');
  t.match(warnings, [{ addresses: ['10.5.0.3'] }]);
  t.notOk(second.send('10.5.0.2', ipv4Frame('10.5.0.3', '10.5.0.2')), 'it is not switched');
  second.broadcast(arpFrame('10.5.0.3', '10.5.0.2'));
  t.ok(owner.send('10.5.0.3', ipv4Frame('10.5.0.2', '10.5.0.3')));
  owner.broadcast(arpFrame('10.5.0.2', '10.5.0.3'));
  await until(() => first.frames.length === 2, 'frames of the first');
  t.equal(second.frames.length + owner.frames.length, 0);
  const third = open(t, folder, ['10.5.0.2', '10.5.0.4'], { logger });
  await until(() => role(third) === 'sibling', 'one with a free address besides');
  t.strictSame([...third.siblings.local].sort(), ['10.5.0.2', '10.5.0.3']);
  await first.siblings.close();
  await until(() => role(second) === 'sibling', 'the second to have it');
  t.ok(owner.send('10.5.0.3', ipv4Frame('10.5.0.2', '10.5.0.3')));
  await until(() => second.frames.length === 1, 'its frame');
});

t.test('a frame whose source is not the sender’s is dropped and counted', async (t) => {
  const folder = folderOf(t);
  const owner = open(t, folder, ['10.5.0.2', 'fd00::2']);
  await until(() => role(owner) === 'owner', 'the owner');
  const sibling = open(t, folder, ['10.5.0.3', 'fd00::3']);
  await until(() => role(sibling) === 'sibling', 'the sibling');
  const lies = [
    ipv4Frame('10.5.0.2', '10.5.0.2'),
    ipv4Frame('0.0.0.0', '10.5.0.2'),
    arpFrame('10.5.0.9', '10.5.0.2'),
    ipv6Frame('fd00::9', 'fd00::2'),
    ipv6Frame('fe80::9', 'fd00::2'),
    ipv6Frame('::', 'fd00::2'),
    new Uint8Array(14),
    ipv4Frame('10.5.0.3', '10.5.0.2').subarray(0, 30),
    arpFrame('10.5.0.3', '10.5.0.2').subarray(0, 40),
    ipv6Frame('fd00::3', 'fd00::2').subarray(0, 50),
  ];
  const truths = [
    ipv4Frame('10.5.0.3', '10.5.0.2', 1234, 7),
    ipv4Frame('10.5.0.3', '10.5.0.2', 65_535),
    arpFrame('0.0.0.0', '10.5.0.3'),
    ipv6Frame('fd00::3', 'fd00::2'),
    ipv6Frame('fe80::9', 'fd00::2', 58),
    ipv6Frame('::', 'fd00::2', 0),
  ];
  for (const frame of [...lies, ...truths]) sibling.send('10.5.0.2', frame);
  await until(() => owner.frames.length >= truths.length, 'the true ones');
  t.strictSame(owner.frames, truths);
  t.equal(owner.siblings.dropped.source, lies.length);
  t.ok(owner.send('fd00::3', ipv6Frame('fd00::2', 'fd00::3')));
  await until(() => sibling.frames.length === 1, 'IPv6');
});

t.test('a folder that cannot be used is tried again', async (t) => {
  const folder = join(folderOf(t), 'later');
  const sibling = open(t, folder, '10.5.0.2');
  await until(() => sibling.polls >= 2, 'attempts');
  t.strictSame(sibling.roles, ['waiting']);
  const long = open(t, join(folder, 'x'.repeat(100)), '10.5.0.2');
  await until(() => long.polls >= 1, 'attempts');
  await sibling.siblings.close();
  await sibling.siblings.close();
  const { polls } = sibling;
  await until(() => long.polls >= 4, 'the other one goes on');
  t.equal(sibling.polls, polls);
});
