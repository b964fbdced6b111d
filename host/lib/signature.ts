/**
 * Signatures of what VMs boot: Ed25519 over the bytes of manifest.json, which has the hashes of everything else; 64 bytes in
 * `manifest.json.sig`. openssl makes and checks the same: `openssl pkeyutl -sign -rawin`.
 */
import { createPrivateKey, createPublicKey, type KeyObject, sign, verify } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
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
  let bytes: Buffer;
  let signature: Buffer;
  try {
    bytes = readFileSync(manifest);
    signature = statSync(path).size === SIGNATURE ? readFileSync(path) : Buffer.alloc(0);
  } catch (cause) {
    throw new YavmError(CODE, `${path}: what is to boot is not signed`, { cause, hint });
  }
  if (!verify(null, bytes, key, signature))
    throw new YavmError(CODE, `${path}: not the trusted key's signature of this manifest`, { hint });
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
