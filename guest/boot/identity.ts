/** Who this VM is: its name, and the machine id where the image leaves that open. */
import type { Native } from '../../native/face.ts';
import { fromNative, GuestError } from '../errors.ts';
import { makeDirectories } from '../lib/beneath.ts';
import { O_CLOEXEC, O_RDONLY } from '../lib/constants.ts';
import { readTextFile } from '../lib/read-file.ts';
import { replaceTextFile } from '../lib/replace-file.ts';

/** HOST_NAME_MAX of Linux, bytes. */
const MAX_HOSTNAME = 64;
/** systemd's word for an image whose id is to be made at its first boot. */
const UNINITIALIZED = 'uninitialized';

/** Sets the host name, in the kernel and in the root's /etc. @throws {GuestError} bad-request, file-failed */
export function applyIdentity(native: Native, rootFd: number, hostname: string): void {
  checkHostname(hostname);
  let etc = -1;
  try {
    native.setHostname(hostname);
    etc = makeDirectories(native, rootFd, 'etc', 0o755);
    replaceTextFile(native, etc, 'hostname', `${hostname}\n`);
    if (wantsMachineId(readTextFile(native, etc, 'machine-id', 64))) {
      replaceTextFile(native, etc, 'machine-id', `${machineId(randomBytes(native, 16))}\n`, 0o444);
    }
  } catch (error) {
    throw fromNative('file-failed', `cannot give the VM its name '${hostname}'`, error);
  } finally {
    if (etc >= 0) native.close(etc);
  }
}

/** Letters, digits, `-`, `_` and `.`, as in a DNS name. @throws {GuestError} bad-request */
export function checkHostname(name: string): void {
  if (name.length <= MAX_HOSTNAME && /^[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?$/.test(name)) return;
  throw new GuestError(
    'bad-request',
    `'${name.slice(0, 100)}' is no host name of at most ${MAX_HOSTNAME} characters`,
  );
}

/**
 * Only a file that is there and empty (or says so) asks for an id. An image without the file has nothing that reads
 * it, and an id that an image brings is its maker's choice, as in Docker.
 */
export function wantsMachineId(content: string | null): boolean {
  if (content === null) return false;
  const text = content.trim();
  return text === '' || text === UNINITIALIZED;
}

/** From the kernel's pool, not from the host's bytes that fed it: the file is for everyone to read. */
function randomBytes(native: Native, count: number): Uint8Array {
  const fd = native.open('/dev/urandom', O_RDONLY | O_CLOEXEC, 0);
  try {
    const bytes = new Uint8Array(count);
    // random(4): reads of up to 256 bytes are never short.
    native.read(fd, bytes);
    return bytes;
  } finally {
    native.close(fd);
  }
}

/** 32 hexadecimal digits, marked as a random UUID (version 4), as machine-id(5) has it. */
export function machineId(random: Uint8Array): string {
  const bytes = random.slice(0, 16);
  bytes[6] = ((bytes[6] as number) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80;
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}
