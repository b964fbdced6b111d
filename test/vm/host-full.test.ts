/** The host's disk is full while a VM writes: the VM waits for room, and ends with the reason when none comes. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { isYavmError } from '../../host/lib/errors.ts';
import { createLogger } from '../../host/lib/logger.ts';
import { inNamespaces } from '../lib/namespaces.ts';
import { eventually, start } from '../lib/running.ts';
import { privateEnvironment, shell, startTestVm } from '../lib/vm.ts';

const MIB = 1024 * 1024;

if (inNamespaces(import.meta.url)) {
  t.setTimeout(0);
  const folder = privateEnvironment(t).XDG_RUNTIME_DIR as string;

  /** A host's disk of 64 MiB. */
  const makeDisk = (name: string): string => {
    const path = join(folder, name);
    mkdirSync(path);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64m,mode=1777', 'none', path]);
    t.teardown(() => execFileSync('umount', ['--lazy', path]));
    return path;
  };

  t.test('a command writes more than the host has', async (t) => {
    const disk = makeDisk('full');
    const log = join(folder, 'log');
    const logger = createLogger({ level: 'warn', file: log });
    const vm = await startTestVm(t, { root: { disk: 256 * MIB }, diskFolder: disk }, { logger });
    const ballast = join(disk, 'ballast');
    writeFileSync(ballast, Buffer.alloc(30 * MIB));

    await t.test('and waits; when room comes in time it has lost nothing', async (t) => {
      const command = await start(vm, [
        'sh',
        '-c',
        'dd if=/dev/zero of=/big bs=1M count=40 && sync && echo whole',
      ]);
      await eventually(
        'the VM waits',
        () => existsSync(log) && /takes no more/.test(readFileSync(log, 'utf8')),
      );
      rmSync(ballast);
      t.match(await command.command.result, { exitCode: 0 });
      t.equal(command.stdout(), 'whole\n');
      t.equal(await shell(vm, 'cmp -n 41943040 /big /dev/zero && rm /big && sync && echo same'), 'same\n');
    });

    await t.test('else it ends within seconds, with the reason', async (t) => {
      const began = performance.now();
      const command = await start(vm, ['sh', '-c', 'dd if=/dev/zero of=/big bs=1M count=200; sync']);
      command.command.result.catch(() => {});
      const { reason, error } = await vm.ended;
      t.equal(reason, 'failed');
      t.match(error, { code: 'YAVM_E_DISK_FULL', message: /No space left on device/, hint: /YAVM_DISK_DIR/ });
      t.comment(`${Math.round(performance.now() - began)} ms`);
      await t.rejects(command.command.result, { code: 'YAVM_E_DISK_FULL' });
    });
  });

  t.test('there is no room even for the disk', async (t) => {
    const disk = makeDisk('none');
    writeFileSync(join(disk, 'ballast'), Buffer.alloc(64 * MIB - 64 * 1024));
    const error: unknown = await startTestVm(t, { diskFolder: disk }).catch((error: unknown) => error);
    t.ok(isYavmError(error, 'YAVM_E_DISK_FULL'), String(error));
    const reserve = { disk: 32 * MIB, preallocate: 32 * MIB };
    await t.rejects(startTestVm(t, { diskFolder: disk, root: reserve }), { code: 'YAVM_E_DISK_FULL' });
  });
}
