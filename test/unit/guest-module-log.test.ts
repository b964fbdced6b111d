/** What the kernel's log says of a module, by records as /dev/kmsg has them. */
import t from 'tap';
import { ModuleLog } from '../../guest/boot/module-log.ts';
import { fakeNative } from '../lib/fake-native.ts';

function lastLine(name: string, records: string[]): string {
  const left = [...records];
  const fake = fakeNative(
    { '/dev/kmsg': '' },
    {
      read: (_fd, buffer) => {
        const record = left.shift();
        return record === undefined ? -1 : new TextEncoder().encodeInto(record, buffer).written;
      },
    },
  );
  const log = new ModuleLog(fake.native);
  log.mark();
  const line = log.lastLine(name);
  log.rest();
  t.equal(fake.open.size, 0);
  return line;
}

/** Of Debian's 535.309.01 in a VM without a card. */
const NVIDIA = [
  '4,400,1,-;nvidia: loading out-of-tree module taints kernel.',
  '6,401,1,-;nvidia-nvlink: Nvlink Core is being initialized, major device number 244',
  '3,402,1,-;NVRM: No NVIDIA GPU found.',
  '6,403,1,-;nvidia-nvlink: Unregistered Nvlink Core, major device number 244',
];

t.test('NVIDIA’s module gives its reason as NVRM, and other lines follow', (t) => {
  t.equal(lastLine('nvidia', NVIDIA), 'NVRM: No NVIDIA GPU found.');
  t.equal(
    lastLine('nvidia', ['4,1,1,-;nvidia: Unknown symbol drm_open (err -2)', '6,2,1,-;eth0: link is up']),
    'nvidia: Unknown symbol drm_open (err -2)',
    'what the kernel says of it, when it came to say nothing',
  );
  t.equal(
    lastLine('nvidia', ['12,1,1,-;NVRM: said by a program', '6,2,1,-;eth0: link is up']),
    'eth0: link is up',
  );
  t.end();
});

t.test('no other module is meant by it, whatever its name', (t) => {
  t.equal(lastLine('nvidia_uvm', NVIDIA), 'nvidia-nvlink: Unregistered Nvlink Core, major device number 244');
  t.equal(
    lastLine('constructor', NVIDIA),
    'nvidia-nvlink: Unregistered Nvlink Core, major device number 244',
  );
  t.equal(lastLine('nvidia', []), '');
  t.end();
});
