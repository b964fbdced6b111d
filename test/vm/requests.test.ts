/** What a VM is told about itself: names, network, mounts; and what it tells: figures. */
import t, { type Test } from 'tap';
import type { MountSpec, NetworkSpec } from '../../guest/protocol/messages.ts';
import type { Vm } from '../../host/runtime/index.ts';
import { run, shell, startTestVm } from '../lib/vm.ts';

// The runner has a deadline for the whole file.
t.setTimeout(0);

const MIB = 1024 * 1024;
const MAC = '52:54:00:12:34:56';
const NETWORK: NetworkSpec = {
  links: [
    {
      mac: MAC,
      name: 'eth0',
      setMac: '90:13:0a:00:00:02',
      mtu: 1400,
      addresses: ['10.0.0.2/24', 'fd00::2/64'],
      routes: [
        { to: 'default', via: '10.0.0.1' },
        { to: '192.168.7.0/24', via: '10.0.0.9', metric: 7 },
      ],
    },
  ],
  hosts: { other: '10.0.0.3', six: 'fd00::3' },
  nameservers: ['10.0.0.1', 'fd00::1'],
  searchDomains: ['example.test', 'test'],
};

t.test('a VM', async (t) => {
  const vm = await startTestVm(t, {
    hostname: 'named.example',
    cpus: 2,
    network: NETWORK,
    mounts: [
      { kind: 'ram', path: '/ram/inner', size: 2 * MIB, mode: 0o700 },
      { kind: 'directory', path: '/volume', mode: 0o1777 },
    ],
  });
  // Both wait for hardware that never comes; the VM goes on meanwhile.
  const absent = absentHardware(vm);
  await t.test('names', (t) => names(t, vm));
  await t.test('network', (t) => network(t, vm));
  await t.test('mounts', (t) => mounts(t, vm));
  await t.test('figures', (t) => figures(t, vm));
  await t.test('hardware that is not there is told of', async (t) => {
    const [link, disk] = await absent;
    t.match(link, { code: 'YAVM_E_GUEST_NETWORK_FAILED', message: /52:54:00:00:00:99/ });
    t.match(disk, { code: 'YAVM_E_GUEST_DISK_MISSING', message: /'absent'.*'root'/ });
    t.equal(await shell(vm, 'cat /proc/net/dev | grep -c eth'), '1\n');
  });
});

/** How the requests for a link and for a disk fail. */
async function absentHardware(vm: Vm): Promise<unknown[]> {
  const links = [{ mac: '52:54:00:00:00:99', name: 'eth9', addresses: [] }];
  const works = [vm.network({ links }), vm.mount({ kind: 'disk', serial: 'absent', path: '/absent' })];
  return await Promise.all(
    works.map((work) =>
      work.then(
        () => null,
        (error: unknown) => error,
      ),
    ),
  );
}

async function names(t: Test, vm: Vm): Promise<void> {
  t.equal(await shell(vm, 'hostname; cat /etc/hostname; uname -n'), 'named.example\n'.repeat(3));
  const before = Date.now() / 1000;
  const seconds = Number(await shell(vm, 'date +%s'));
  t.ok(seconds > before - 5 && seconds < Date.now() / 1000 + 5, 'the clock is the host’s');
  t.equal(await shell(vm, 'nproc'), '2\n');
}

const STANDARD =
  '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n';

async function network(t: Test, vm: Vm): Promise<void> {
  const hosts = () => shell(vm, 'cat /etc/hosts');
  const resolver = () => shell(vm, 'cat /etc/resolv.conf');

  t.test('is there from the start', async (t) => {
    t.equal(await hosts(), `${STANDARD}10.0.0.2\tnamed.example\n10.0.0.3\tother\nfd00::3\tsix\n`);
    t.equal(await resolver(), 'search example.test test\nnameserver 10.0.0.1\nnameserver fd00::1\n');
    t.match(await shell(vm, 'ip addr show lo'), /UP.*inet 127\.0\.0\.1\/8.*inet6 ::1\/128/s);
    const link = await shell(vm, 'ip addr show eth0');
    t.match(link, /UP.* mtu 1400 .*90:13:0a:00:00:02.*inet 10\.0\.0\.2\/24.*inet6 fd00::2\/64/s);
    const routes = await shell(vm, 'ip route');
    t.match(routes, /^default via 10\.0\.0\.1 dev eth0/m);
    t.match(routes, /^192\.168\.7\.0\/24 via 10\.0\.0\.9 dev eth0 .*metric 7/m);
    t.equal(
      await shell(vm, 'ping -c 1 -W 5 127.0.0.1 >/dev/null && ping -c 1 -W 5 ::1 >/dev/null && echo both'),
      'both\n',
    );
  });

  t.test('changes by request, part by part', async (t) => {
    await vm.network({ hosts: { new: '10.0.0.4' } });
    t.equal(await hosts(), `${STANDARD}10.0.0.2\tnamed.example\n10.0.0.4\tnew\n`);
    t.match(await resolver(), 'nameserver 10.0.0.1', 'what is not named stays');
    await vm.network({ nameservers: ['9.9.9.9'], searchDomains: [] });
    t.equal(await resolver(), 'nameserver 9.9.9.9\n');
    await vm.network({ links: [{ mac: MAC, name: 'eth0', addresses: ['10.0.0.5/24'] }] });
    const link = await shell(vm, 'ip -4 addr show eth0');
    t.match(link, 'inet 10.0.0.5/24');
    t.notMatch(link, 'inet 10.0.0.2/24');
    t.match(await hosts(), '10.0.0.5\tnamed.example', 'its own name moves with it');
    await Promise.all(['a', 'b', 'c'].map((name) => vm.network({ hosts: { [name]: '10.0.0.6' } })));
    t.match(await hosts(), /10\.0\.0\.6\tc\n$/, 'the last of several is what holds');
  });

  t.test('refuses what is no network, and stays as it was', async (t) => {
    const before = [await hosts(), await resolver(), await shell(vm, 'ip addr show eth0')];
    const wrong: NetworkSpec[] = [
      { hosts: { name: '10.0.0' } },
      { hosts: { 'two words': '10.0.0.1' } },
      { nameservers: ['1.2.3.4', 'x'] },
      { links: [{ mac: MAC, name: 'eth0', addresses: ['10.0.0.2/33'] }] },
      { links: [{ mac: 'none', name: 'eth0', addresses: [] }] },
    ];
    for (const spec of wrong) {
      await t.rejects(vm.network({ ...spec, searchDomains: ['changed'] }), {
        code: 'YAVM_E_GUEST_BAD_REQUEST',
      });
    }
    t.strictSame([await hosts(), await resolver(), await shell(vm, 'ip addr show eth0')], before);
  });

  t.test('is the root’s of the task, whatever it does with its files', async (t) => {
    await shell(
      vm,
      'rm /etc/hosts; ln -s /run/elsewhere /etc/hosts; rm /etc/resolv.conf; mkdir /etc/resolv.conf',
    );
    await t.rejects(vm.network({ nameservers: ['9.9.9.9'] }), {
      code: 'YAVM_E_GUEST_FILE_FAILED',
      errno: 'EISDIR',
    });
    await shell(vm, 'rmdir /etc/resolv.conf');
    await vm.network({ nameservers: ['9.9.9.8'] });
    t.equal(await resolver(), 'nameserver 9.9.9.8\n');
    t.equal(await shell(vm, 'test -L /etc/hosts || echo replaced; ls /run'), 'replaced\n');
  });
}

async function mounts(t: Test, vm: Vm): Promise<void> {
  t.test('of the start are there', async (t) => {
    t.match(
      await shell(vm, 'grep /ram/inner /proc/mounts'),
      /^ram \/ram\/inner tmpfs rw,.*size=2048k,mode=700/,
    );
    t.equal(await shell(vm, 'stat -c %a /volume; grep -c /volume /proc/mounts; true'), '1777\n0\n');
  });

  t.test('memory, by request: of its size, and for every user', async (t) => {
    await vm.mount({ kind: 'ram', path: '/new/ram', size: MIB });
    const { result, stderr } = await run(vm, {
      argv: ['dd', 'if=/dev/zero', 'of=/new/ram/f', 'bs=64k'],
      user: 'user',
    });
    t.match(result, { exitCode: 1, outOfMemory: false });
    t.match(stderr.text, 'No space left on device');
    t.equal(await shell(vm, 'stat -c %s /new/ram/f'), `${MIB}\n`);
    await shell(vm, 'umount /new/ram');
  });

  t.test('never out of the root, nor in its place', async (t) => {
    await shell(
      vm,
      'mkdir -p /m/target; ln -s / /m/root; ln -s /proc/1/root /m/agent; ln -s ../../../m/target /m/up',
    );
    await vm.mount({ kind: 'ram', path: '/m/up/deep', size: MIB });
    t.match(await shell(vm, 'grep ^ram /proc/mounts'), ' /m/target/deep tmpfs ');
    await t.rejects(vm.mount({ kind: 'ram', path: '/m/agent/x', size: MIB }), {
      code: 'YAVM_E_GUEST_MOUNT_FAILED',
      errno: 'ELOOP',
    });
    for (const path of ['/', '/..', '/m/..', 'relative'])
      await t.rejects(vm.mount({ kind: 'ram', path, size: MIB }), { code: 'YAVM_E_GUEST_BAD_REQUEST' }, path);
    await t.rejects(vm.mount({ kind: 'ram', path: '/etc/passwd', size: MIB }), {
      code: 'YAVM_E_GUEST_MOUNT_FAILED',
      errno: 'ENOTDIR',
    });
  });

  t.test('what this kernel, or this VM, does not have is an error', async (t) => {
    const specs: MountSpec[] = [
      { kind: 'disk', serial: 'root', path: '/d', type: 'nofs' },
      { kind: 'virtiofs', tag: 'none', path: '/v' },
      { kind: '9p', tag: 'none', path: '/v' },
    ];
    for (const spec of specs)
      await t.rejects(vm.mount(spec), { code: /^YAVM_E_GUEST_(MOUNT|MODULE)_FAILED$/ }, spec.kind);
  });

  t.test('directories, which may be there already', async (t) => {
    await vm.mount({ kind: 'directory', path: '/deep/down/here', mode: 0o2770 });
    t.equal(await shell(vm, 'stat -c %a /deep/down /deep/down/here'), '755\n2770\n');
    await vm.mount({ kind: 'directory', path: '/etc' });
    t.match(await shell(vm, 'stat -c %a /etc; cat /etc/passwd'), /^755\nroot:/);
  });
}

async function figures(t: Test, vm: Vm): Promise<void> {
  const before = await vm.stats();
  const total = Number(/MemTotal: +(\d+)/.exec(await shell(vm, 'cat /proc/meminfo'))?.[1]) * 1024;
  t.equal(before.memory.total, total);
  t.ok(
    before.memory.available > 50 * MIB && before.memory.available < total,
    `available ${before.memory.available}`,
  );
  t.ok(
    before.memory.agent > 0.5 * MIB && before.memory.agent < 8 * MIB,
    `the agent has ${before.memory.agent}`,
  );
  t.ok(before.root.total >= 256 * MIB && before.root.total < 1.1 * 256 * MIB, `root ${before.root.total}`);
  t.ok(before.root.free <= before.root.total);
  t.equal(before.processes, 0);
  t.strictSame(before.links.map(({ name }) => name).sort(), ['eth0', 'lo']);

  await shell(
    vm,
    'ping -c 2 -W 5 127.0.0.1 >/dev/null; dd if=/dev/zero of=/big bs=1M count=20 2>/dev/null; sync',
  );
  const after = await vm.stats();
  t.ok(after.uptime > before.uptime);
  t.ok(
    after.cpu.user + after.cpu.system > before.cpu.user + before.cpu.system,
    'CPU time of commands that are over',
  );
  t.ok(before.root.free - after.root.free >= 20 * MIB, `${before.root.free - after.root.free} bytes less`);
  const received = ({ links }: typeof before) => links.find(({ name }) => name === 'lo')?.rxBytes ?? 0;
  t.ok(received(after) - received(before) >= 2 * 84, 'two pings and their answers');
  await t.rejects(vm.stats(99_999), { code: 'YAVM_E_GUEST_UNKNOWN_PROCESS' });
}
