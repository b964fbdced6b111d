/** Keys for signatures, as openssl would write them. */
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** A new Ed25519 pair in `folder`: paths of its private and its public half. */
export function writeKeys(folder: string, name: string): { key: string; trusted: string } {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const pem = (key: KeyObject, type: 'pkcs8' | 'spki') =>
    key.export({ type, format: 'pem' } as never) as string;
  const paths = { key: join(folder, `${name}.key`), trusted: join(folder, `${name}.pem`) };
  writeFileSync(paths.key, pem(privateKey, 'pkcs8'));
  writeFileSync(paths.trusted, pem(publicKey, 'spki'));
  return paths;
}
