/** Which way folders of the host reach a VM, by what this host and the VM's kernel have. */
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { chooseShareWay } from '../../host/runtime/share-kind.ts';

const folder = t.testdir({
  server: '#!/bin/sh\necho virtiofsd 1.13.2\n',
  mute: '#!/bin/sh\nexit 1\n',
  refusing: { unshare: '#!/bin/sh\nexit 1\n' },
  'not.json': '{',
});
for (const program of ['server', 'mute', 'refusing/unshare']) chmodSync(join(folder, program), 0o755);

function manifest(...modules: string[]): string {
  const path = join(folder, `${modules.join('-') || 'none'}.json`);
  const content = {
    kernel: { release: '6.1.0-test' },
    modules: modules.map((name) => ({ name })),
    builtin: ['ext4'],
  };
  writeFileSync(path, JSON.stringify(content));
  return path;
}

const CLOUD = manifest('fuse', 'virtiofs');
const GENERIC = manifest('fuse', 'virtiofs', '9pnet_virtio', '9p');
const env = (name: string) => ({ YAVM_VIRTIOFSD: join(folder, name) });
const choose = (path: string, program: string, root = true) =>
  chooseShareWay({ manifest: path, env: env(program), root });

t.test('virtiofsd where it can run, 9p where it cannot', async (t) => {
  const virtiofs = { kind: 'virtiofs', program: { path: join(folder, 'server'), kind: 'rust' } };
  t.strictSame(choose(CLOUD, 'server'), virtiofs);
  t.strictSame(choose(GENERIC, 'server'), virtiofs);
  t.strictSame(choose(join(folder, 'not.json'), 'server'), virtiofs, 'a manifest that says nothing');
  t.strictSame(choose(GENERIC, 'missing'), { kind: '9p' });
  t.strictSame(choose(GENERIC, 'mute'), { kind: '9p' });
  t.strictSame(choose(manifest('9pnet_virtio', '9p'), 'server'), { kind: '9p' }, 'by the kernel, too');
  t.strictSame(choose(join(folder, 'not.json'), 'missing'), { kind: '9p' }, 'the guest will tell');
});

t.test('an ordinary user who may make no namespaces', async (t) => {
  const path = process.env.PATH;
  process.env.PATH = join(folder, 'refusing');
  t.teardown(() => {
    process.env.PATH = path;
  });
  t.strictSame(choose(GENERIC, 'server', false), { kind: '9p' });
  t.match(choose(GENERIC, 'server', true), { kind: 'virtiofs' }, 'root needs none');
  t.throws(() => choose(CLOUD, 'server', false), {
    code: 'YAVM_E_VOLUMES',
    message:
      /not by virtiofs \(ordinary users are refused user namespaces here\), not by 9p \(.*6\.1\.0-test has no 9pnet/,
    hint: /max_user_namespaces.*; or boot a kernel that has it: ya-vm initramfs build/,
  });
});

t.test('neither way: both reasons, and what to do', async (t) => {
  t.throws(() => choose(CLOUD, 'missing'), {
    code: 'YAVM_E_VOLUMES',
    message: /not by virtiofs \(.*missing.*cannot be executed\), not by 9p \(/,
    hint: /apt-get install virtiofsd.*; or boot/,
  });
  t.throws(() => choose(manifest(), 'server'), { message: /has no virtiofs\), not by 9p/ });
});
