/**
 * Signatures of what VMs boot: Ed25519 over the bytes of manifest.json, which has the hashes of everything else; 64 bytes in
 * `manifest.json.sig`. openssl makes and checks the same: `openssl pkeyutl -sign -rawin`. A driver layer is one large file: what is
 * signed of it is a text with its size and hash.
 */
import { createHash, createPrivateKey, createPublicKey, type KeyObject, sign, verify } from 'node:crypto';
import { createReadStream, readFileSync, statSync } from 'node:fs';
import { YavmError } from './errors.ts';

const CODE = 'YAVM_E_KERNEL_SIGNATURE';
/** Largest key file, bytes. */
const MAX_KEY = 64 * 1024;
const SIGNATURE = 64;

/** A private key, PEM. @throws {YavmError} YAVM_E_KERNEL_SIGNATURE */
export function signingKey(path: string): KeyObject {
  return readKey(path, 'private', 'openssl genpkey -algorithm ed25519 -out key.pem');
}

/** A public key, PEM. @throws {YavmError} YAVM_E_KERNEL_SIGNATURE */
export function trustedKey(path: string): KeyObject {
  return readKey(path, 'public', 'openssl pkey -in key.pem -pubout -out trusted.pem');
}

export function signBytes(bytes: Uint8Array, key: KeyObject): Uint8Array {
  return sign(null, bytes, key);
}

export function signaturePath(manifest: string): string {
  return `${manifest}.sig`;
}

/** @throws {YavmError} YAVM_E_KERNEL_SIGNATURE: the manifest has no signature, or not this key's */
export function checkSignature(manifest: string, key: KeyObject): void {
  const path = signaturePath(manifest);
  const hint = 'ya-vm initramfs build --sign KEY, or: ya-vm initramfs sets NAME --sign KEY';
  const unsigned = `${path}: what is to boot is not signed`;
  const signature = readSignature(path, unsigned, hint);
  let bytes: Buffer;
  try {
    bytes = readFileSync(manifest);
  } catch (cause) {
    throw new YavmError(CODE, unsigned, { cause, hint });
  }
  if (!verify(null, bytes, key, signature))
    throw new YavmError(CODE, `${path}: not the trusted key's signature of this manifest`, { hint });
}

/**
 * What is signed of a driver layer. @param fd The file, where it is open; its offset stays as it is.
 * @throws Error it cannot be read
 */
export async function layerStatement(file: string, fd?: number): Promise<Uint8Array> {
  const hash = createHash('sha256');
  let size = 0;
  // With `start` it is read by positions.
  const open = fd === undefined ? {} : { fd, start: 0, autoClose: false };
  for await (const chunk of createReadStream(file, open) as AsyncIterable<Buffer>) {
    hash.update(chunk);
    size += chunk.length;
  }
  return Buffer.from(`ya-vm driver layer\nsize ${size}\nsha256 ${hash.digest('hex')}\n`);
}

/**
 * Reads all of a driver layer. @param fd As for {@link layerStatement}.
 * @throws {YavmError} YAVM_E_KERNEL_SIGNATURE: it has no signature, or not this key's
 */
export async function checkLayerSignature(file: string, key: KeyObject, fd?: number): Promise<void> {
  const path = signaturePath(file);
  const hint = 'ya-vm driver-layer build --sign KEY';
  const signature = readSignature(path, `${path}: the driver layer is not signed`, hint);
  const statement = await layerStatement(file, fd).catch((cause) => {
    throw new YavmError(CODE, `${file}: the driver layer cannot be read`, { cause });
  });
  if (!verify(null, statement, key, signature))
    throw new YavmError(CODE, `${path}: not the trusted key's signature of this driver layer`, { hint });
}

/** Empty: it has not the size of one. */
function readSignature(path: string, unsigned: string, hint: string): Buffer {
  try {
    return statSync(path).size === SIGNATURE ? readFileSync(path) : Buffer.alloc(0);
  } catch (cause) {
    throw new YavmError(CODE, unsigned, { cause, hint });
  }
}

function readKey(path: string, kind: 'private' | 'public', hint: string): KeyObject {
  let key: KeyObject;
  try {
    if (statSync(path).size > MAX_KEY) throw new Error('too large');
    const text = readFileSync(path);
    key = kind === 'private' ? createPrivateKey(text) : createPublicKey(text);
  } catch (cause) {
    throw new YavmError(CODE, `${path}: no ${kind} key in PEM`, { cause, hint });
  }
  if (key.asymmetricKeyType === 'ed25519') return key;
  throw new YavmError(CODE, `${path}: a key for ${key.asymmetricKeyType}, not for Ed25519`, { hint });
}
