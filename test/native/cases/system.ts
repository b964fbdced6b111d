/** The machine as a whole: modules, devices, power, names, clock, entropy. What would change this machine is only refused. */
import type { Case } from '../harness.ts';
import { bytes, isolate, needsRoot, O_RDONLY, O_RDWR, sleep, withFolder, writeFile } from '../tools.ts';

const FIONREAD = 0x541b;
const TIOCGWINSZ = 0x5413;
const RNDGETENTCNT = 0x80045200;

export const systemCases: Case[] = [
  {
    name: 'module: what is no module is not loaded',
    run: (native, assert) => {
      needsRoot(native, assert);
      return withFolder(native, (folder) => {
        writeFile(native, `${folder}/x.ko`, 'not a module');
        const fd = native.open(`${folder}/x.ko`, O_RDONLY, 0);
        try {
          native.loadModule(fd, 'a=1', 0);
          assert.ok(false, 'loaded');
        } catch (error) {
          const { code, syscall } = error as { code: string; syscall: string };
          if (code === 'ENOSYS' || code === 'EPERM') assert.skip(`this kernel loads no modules (${code})`);
          assert.equal([code, syscall], ['ENOEXEC', 'finit_module'], 'refused by the kernel');
        } finally {
          native.close(fd);
        }
        assert.rejects(
          () => native.loadModule(0, '', 8),
          /flags must be an integer from 0 to 7/,
          'an unknown flag',
        );
        assert.fails(
          () => native.deleteModule('no_such_module', 0),
          { code: 'ENOENT', syscall: 'delete_module' },
          'unload',
        );
      });
    },
  },
  {
    name: 'device: ioctl by number and by buffer',
    run(native, assert) {
      const [reader, writer] = native.pipe('none', 0);
      native.write(writer, new Uint8Array(1234));
      const buffer = new Uint8Array(4);
      assert.equal(native.ioctlBuffer(reader, FIONREAD, buffer), 0, 'result');
      assert.equal(new DataView(buffer.buffer).getInt32(0, true), 1234, 'filled in place');
      assert.equal(native.pending(reader), 1234, 'the same by its own call');
      assert.fails(
        () => native.ioctlBuffer(reader, TIOCGWINSZ, new Uint8Array(8)),
        { code: 'ENOTTY' },
        'no terminal',
      );
      assert.fails(
        () => native.ioctlInt(reader, 0x5421 + 0x1000, 0),
        { code: 'ENOTTY', syscall: 'ioctl' },
        'unknown',
      );
      native.close(reader);
      native.close(writer);
      const random = native.open('/dev/urandom', O_RDWR, 0);
      assert.rejects(
        () => native.ioctlBuffer(random, RNDGETENTCNT, new Uint8Array(3)),
        /at least 4 bytes long/,
        'a buffer smaller than the request says',
      );
      native.close(random);
    },
  },
  {
    name: 'memory: a program goes on without its pages, and has fewer of them',
    run(native, assert) {
      const resident = () =>
        Number(/RssFile:\s+(\d+) kB/.exec(native.readText(-1, '/proc/self/status', 65_536))?.[1]);
      const before = resident();
      native.dropProgramPages();
      const after = resident();
      assert.ok(after < before, `${before} KiB of files before, ${after} after`);
    },
  },
  {
    name: 'power: a wrong command is refused, sync returns',
    run(native, assert) {
      native.sync();
      const code = native.getUid() === 0 ? 'EINVAL' : 'EPERM';
      assert.fails(() => native.reboot(0x12345), { code, syscall: 'reboot' }, 'no such command');
      assert.rejects(() => native.debugExit(256), /from 0 to 255/, 'no byte');
    },
  },
  {
    name: 'host name: set in a namespace of its own',
    run(native, assert) {
      needsRoot(native, assert);
      isolate(native, assert);
      native.setHostname('yavm-test');
      assert.equal(native.uname().nodename, 'yavm-test', 'set');
      assert.fails(
        () => native.setHostname('x'.repeat(65)),
        { code: 'EINVAL', syscall: 'sethostname' },
        'too long',
      );
      assert.ok(
        /^\d+\.\d+/.test(native.uname().release) && native.uname().machine.length > 0,
        'kernel and machine',
      );
    },
  },
  {
    name: 'clock: monotonic time passes; an impossible time is refused',
    async run(native, assert) {
      const start = native.monotonic();
      await sleep(20);
      const passed = native.monotonic() - start;
      assert.ok(passed >= 19 && passed < 10_000, `20 ms took ${passed} ms`);
      assert.ok(
        [start, start + passed].some((time) => time % 1 !== 0),
        'with fraction',
      );
      assert.fails(() => native.setClock(-1), { syscall: 'clock_settime' }, 'before 1970');
      assert.fails(
        () => native.setClock(1e300),
        { code: 'EINVAL', syscall: 'clock_settime' },
        'no such time',
      );
    },
  },
  {
    name: 'entropy: taken by the kernel, within bounds',
    run(native, assert) {
      needsRoot(native, assert);
      native.addEntropy(bytes('not very random, but more does not hurt'));
      native.addEntropy(new Uint8Array(4096));
      assert.rejects(() => native.addEntropy(new Uint8Array(0)), /1 to 4096 bytes/, 'none');
      assert.rejects(() => native.addEntropy(new Uint8Array(4097)), /1 to 4096 bytes/, 'too many');
    },
  },
];
