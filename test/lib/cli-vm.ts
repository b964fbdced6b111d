/** A fake VM for tests of `run` and `shell`: a FakeGuest behind a real GuestClient, with assets and an image on disk. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { appendFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { StartedVm, StartHooks, StartVm } from '../../host/cli/boot.ts';
import { encodeTrailer } from '../../host/image/gvmi.ts';
import type { VmSpec } from '../../host/runtime/types.ts';
import { hostOf } from './attached.ts';
import type { FakeGuest } from './fake-guest.ts';
import { startSession } from './guest-session.ts';

export interface FakeVm {
  start: StartVm;
  guest: FakeGuest;
  /** What was asked for. */
  specs: VmSpec[];
  /** `kill` and `stop`, in order. */
  ends: string[];
  /** Folder with assets, for YAVM_ASSETS. */
  assets: string;
  /** The VM dies, as when QEMU is killed. */
  die(error: Error): void;
}

type Test = { teardown(fn: () => void): void };

/** `during` runs between the phases of the start, for what happens meanwhile. */
export async function fakeVm(
  t: Test,
  during: (hooks: StartHooks) => void = () => {},
  options: { outputWait?: number } = {},
): Promise<FakeVm> {
  const { client, guest } = await startSession(t, options);
  const folder = mkdtempSync(join(tmpdir(), 'yavm-cli-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const specs: VmSpec[] = [];
  const ends: string[] = [];
  const end = (how: string) => async () => {
    if (ends.length === 0) ends.push(how);
  };
  const start: StartVm = async (spec, hooks) => {
    specs.push(spec);
    hooks.onPhase({ name: 'accelerator', milliseconds: 1 });
    during(hooks);
    hooks.signal.throwIfAborted();
    for (const name of ['disk', 'kernel', 'agent', 'file systems'] as const)
      hooks.onPhase({ name, milliseconds: 2 });
    const vm: StartedVm = {
      ...hostOf(client),
      id: 'tobikuda',
      folder,
      accel: 'tcg',
      start: 'boot',
      stop: end('stop'),
      kill: end('kill'),
    };
    return vm;
  };
  return { start, guest, specs, ends, assets: writeAssets(folder), die: (error) => client.close(error) };
}

/** What the demo image of the tests says about commands. */
export const DEMO_CONFIG = {
  Env: ['PATH=/bin', 'FROM=image'],
  Cmd: ['/bin/sh'],
  WorkingDir: '/work',
  User: 'task',
};

/** A manifest with its two files, and a demo image. */
export function writeAssets(folder: string): string {
  const [kernel, initramfs] = ['the kernel', 'the initramfs'];
  writeFileSync(join(folder, 'vmlinux'), kernel);
  writeFileSync(join(folder, 'initramfs.cpio.zst'), initramfs);
  const manifest = {
    format: 1,
    kernel: { release: '6.1.0-test', squashfs: ['gzip'] },
    vmlinux: { size: kernel.length, sha256: sha256(kernel) },
    initramfs: { size: initramfs.length, sha256: sha256(initramfs) },
  };
  writeFileSync(join(folder, 'manifest.json'), JSON.stringify(manifest));
  const [root, image] = [join(folder, 'root'), join(folder, 'demo.gvmi')];
  mkdirSync(root);
  writeFileSync(join(root, 'file'), 'content');
  execFileSync('mksquashfs', [root, image, '-comp', 'gzip', '-quiet', '-no-progress', '-all-root']);
  appendFileSync(image, encodeTrailer(DEMO_CONFIG));
  return folder;
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
