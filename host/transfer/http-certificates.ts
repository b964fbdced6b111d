/** Whose certificates https trusts: Node's authorities and the host's, as curl and browsers there do. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { SecureContext } from 'node:tls';
import { type Logger, silentLogger } from '../lib/logger.ts';

/** Where distributions keep all of theirs in one file: Debian, Fedora, openSUSE, Alpine. The first that is there counts. */
const BUNDLES = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/ca-bundle.pem',
  '/etc/ssl/cert.pem',
];
/** Files of `SSL_CERT_DIR` read at most; distributions have some hundred. */
const MAX_FILES = 4096;
const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

/** By the variables that it was made by: once a process, in practice. */
const contexts = new Map<string, Promise<SecureContext>>();

/**
 * The context of every https request. Reading and parsing takes some 15 ms, once a process; Node's own loader of the
 * host's certificates reads each file of the folder without letting anything else run, 65 ms and more.
 */
export function trustedContext(
  env: NodeJS.ProcessEnv,
  logger: Logger = silentLogger,
): Promise<SecureContext> {
  const key = `${env.SSL_CERT_FILE ?? ''}\n${env.SSL_CERT_DIR ?? ''}`;
  let context = contexts.get(key);
  if (!context) {
    context = hostCertificates(env, logger).then(contextOf);
    contexts.set(key, context);
  }
  return context;
}

async function contextOf(certificates: readonly string[]): Promise<SecureContext> {
  const { createSecureContext, getCACertificates } = await import('node:tls');
  // Lines break elsewhere in another file: what is the same certificate is told without them.
  const all = [...getCACertificates('default'), ...certificates];
  const distinct = new Map(all.map((certificate) => [certificate.replaceAll(/\s/g, ''), certificate]));
  return createSecureContext({ ca: [...distinct.values()] });
}

/** PEM, one certificate each: of `SSL_CERT_FILE` and `SSL_CERT_DIR`, else of the distribution's file. */
export async function hostCertificates(
  env: NodeJS.ProcessEnv,
  logger: Logger = silentLogger,
): Promise<string[]> {
  const { SSL_CERT_FILE: file, SSL_CERT_DIR: folders } = env;
  const texts: string[] = [];
  if (file) texts.push(await read(file, logger));
  if (folders) texts.push(...(await readFolders(folders, logger)));
  if (!file && !folders) texts.push(await firstOf(BUNDLES));
  return texts.flatMap((text) => text.match(CERTIFICATE) ?? []);
}

async function firstOf(files: readonly string[]): Promise<string> {
  for (const file of files) {
    const text = await readFile(file, 'latin1').catch(() => '');
    if (text !== '') return text;
  }
  return '';
}

async function readFolders(folders: string, logger: Logger): Promise<string[]> {
  const texts: string[] = [];
  for (const folder of folders.split(':').filter((name) => name !== '')) {
    const names = await readdir(folder).catch(() => []);
    // Each certificate has a second name there, its hash, for those who look one up.
    for (const name of names.slice(0, MAX_FILES)) texts.push(await read(join(folder, name), logger));
  }
  return texts;
}

async function read(file: string, logger: Logger): Promise<string> {
  try {
    return await readFile(file, 'latin1');
  } catch (err) {
    logger.warn({ file, err }, 'a file of trusted certificates cannot be read');
    return '';
  }
}
