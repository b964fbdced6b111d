/**
 * The floor: the least that a guest can be. A busybox script as /init loads the modules that the agent loads before
 * hello, and writes one byte to the control port: the bench compares the agent's start with it. Then it does what a
 * line on that port says, so that streams can be compared too:
 *
 *     bare N    dd of N blocks of 64 KiB from /dev/zero to the port
 *     piped N   the same through a second dd, as a command's output passes a pipe
 *     sink N    N blocks from the port through two dd's to nowhere, then the byte again
 */
import { buildInitramfs } from '../initramfs/build.ts';
import type { KernelSource } from '../initramfs/kernel/source.ts';
import type { Manifest } from '../initramfs/manifest.ts';
import { resolveClosure } from '../initramfs/modules/closure.ts';
import { MODULES } from '../initramfs/modules/table.ts';
import { fetchBusybox } from './busybox.ts';
import { PACKAGE_CACHE } from './kernel.ts';

/** Name of the port that the byte is written to (PORTS.control of guest/protocol/messages.ts; a test holds them together). */
export const FLOOR_PORT = 'yavm.control';
/** The byte: a full stop. */
export const FLOOR_BYTE = 0x2e;

/** What of the table is loaded before hello. */
const EARLY = MODULES.filter(({ stage }) => stage === 'hello');

/** Builds the floor's initramfs for a kernel. `output`: where the archive goes. */
export async function buildFloor(
  kernel: KernelSource,
  output: string,
  cache = PACKAGE_CACHE,
): Promise<Manifest> {
  const { release, index } = kernel.modules;
  const modules = resolveClosure(index, EARLY, kernel.config).modules.map(({ name }) => name);
  return buildInitramfs({
    kernel,
    init: Buffer.from(floorScript(release, modules)),
    modules: EARLY,
    files: [{ source: await fetchBusybox(cache), path: '/bin/busybox', mode: 0o755 }],
    outputs: { initramfs: output },
    version: 'floor',
  });
}

/** The script. The port's name arrives some time after its driver is loaded, hence the loop. */
export function floorScript(release: string, modules: readonly string[]): string {
  return `#!/bin/busybox sh
b=/bin/busybox
$b mount -t devtmpfs dev /dev
$b mount -t sysfs sys /sys
${modules.map((name) => `$b insmod /lib/modules/${release}/${name}.ko`).join('\n')}
while :; do
  for port in /sys/class/virtio-ports/*; do
    read -r name 2>/dev/null <$port/name || continue
    [ "$name" = ${FLOOR_PORT} ] || continue
    exec 3<>/dev/\${port##*/}
    break 2
  done
  $b usleep 1000
done
printf . >&3
while read -r verb count <&3; do
  case $verb in
    bare) $b dd if=/dev/zero bs=64k count=$count >&3 2>/dev/null ;;
    piped) $b dd if=/dev/zero bs=64k count=$count 2>/dev/null | $b dd bs=64k >&3 2>/dev/null ;;
    sink)
      $b dd bs=64k iflag=fullblock count=$count <&3 2>/dev/null | $b dd of=/dev/null bs=64k 2>/dev/null
      printf . >&3
      ;;
  esac
done
exec $b sleep 1000000
`;
}
