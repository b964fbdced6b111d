/** Connections of a VM that last, though one side says or takes nothing for long: whoever is the way out waits for it. */
import { execFileSync } from 'node:child_process';
import { setTimeout } from 'node:timers/promises';
import t from 'tap';
import { ROUTER, SERVERS, startInternet } from '../lib/internet.ts';
import { PORTS } from '../lib/internet-server.ts';
import { inNamespaces } from '../lib/namespaces.ts';
import { startOutboundVm } from '../lib/outbound-vm.ts';
import { shell } from '../lib/vm.ts';

inNamespaces(import.meta.url);
t.setTimeout(0);

/** Seconds of silence: passt of 2023-03 gave such connections up after 16 and after 24. */
const SILENCE = 30;
const PATIENCE = 240_000;
const MIB = 1024 ** 2;

await startInternet(t);
const { vm } = await startOutboundVm(t);
const say = (command: string) => shell(vm, command, { deadline: PATIENCE });
const { one, one6, two } = SERVERS;

t.test('at once', { jobs: 8 }, async (t) => {
  const milliseconds = SILENCE * 1000;
  t.test('a server that thinks', async (t) => {
    t.match(await say(`guest-net send ${one} ${PORTS.slow} 0 ${milliseconds}`), /^6 /);
  });
  t.test('a server that thinks, IPv6', async (t) => {
    t.match(await say(`guest-net send ${one6} ${PORTS.slow} 0 ${milliseconds}`), /^6 /);
  });
  t.test('a server that takes an upload slowly', async (t) => {
    const size = 64 * MIB;
    const text = await say(`guest-net send ${two} ${PORTS.slow} ${size} ${milliseconds}`);
    t.match(text, new RegExp(`^${size + 6} `));
  });
  t.test('a guest that has no more to say, and waits', async (t) => {
    t.match(await say(`guest-net talk ${one} ${PORTS.slow} '${milliseconds}\n'`), /^6 /);
  });
  t.test('a guest that reads nothing for a while', async (t) => {
    // More than it has room for, and less than the way out has: the server has said all of it.
    const size = 2 * MIB;
    t.match(
      await say(`guest-net receive ${two} ${PORTS.source} ${size} count ${SILENCE}`),
      new RegExp(`^${size}\n`),
    );
  });
});

t.test('a server whose answer to the first packet takes longer than a second', async (t) => {
  const neighbour = `${ROUTER.ipv4} dev vhost`;
  const ip = (words: string) => execFileSync('ip', words.split(' '));
  // Whoever has this, it is not the router.
  ip(`neigh replace ${neighbour} lladdr 02:00:00:00:00:01 nud permanent`);
  const talk = say(`guest-net talk ${one} ${PORTS.echo} there`);
  await setTimeout(2000);
  ip(`neigh del ${neighbour}`);
  t.equal(await talk, 'there');
});
