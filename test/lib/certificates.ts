/** Certificates for servers of tests: right ones, and each kind of wrong one. Made here, so that no program is needed. */
import { generateKeyPairSync, randomBytes, sign } from 'node:crypto';
import { isIPv4 } from 'node:net';

export interface Certificate {
  /** PEM. */
  key: string;
  /** PEM; its own authority. */
  cert: string;
}

export interface CertificateOptions {
  /** Host names and IPv4 addresses; default those of the loopback. */
  names?: string[];
  /** Default: from an hour ago to an hour ahead. */
  notBefore?: Date;
  notAfter?: Date;
}

const HOUR = 3600_000;
/** Object identifiers, encoded. */
const ECDSA_SHA256 = Buffer.from('2a8648ce3d040302', 'hex');
const COMMON_NAME = Buffer.from('550403', 'hex');
const ALTERNATIVE_NAMES = Buffer.from('551d11', 'hex');
const BASIC_CONSTRAINTS = Buffer.from('551d13', 'hex');

/** A certificate that signs itself (RFC 5280, 4.1). */
export function makeCertificate(options: CertificateOptions = {}): Certificate {
  const { names = ['localhost', '127.0.0.1'], notBefore, notAfter } = options;
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const algorithm = sequence(oid(ECDSA_SHA256));
  // Names that differ, so that one is not taken for another's authority.
  const serial = randomBytes(8);
  serial[0] = 1;
  const name = sequence(
    tlv(0x31, sequence(oid(COMMON_NAME), tlv(0x0c, Buffer.from(serial.toString('hex'))))),
  );
  const now = Date.now();
  const content = sequence(
    tlv(0xa0, tlv(0x02, Buffer.from([2]))),
    tlv(0x02, serial),
    algorithm,
    name,
    sequence(time(notBefore ?? new Date(now - HOUR)), time(notAfter ?? new Date(now + HOUR))),
    name,
    publicKey.export({ type: 'spki', format: 'der' }),
    tlv(0xa3, sequence(authority(), alternativeNames(names))),
  );
  const signature = tlv(0x03, Buffer.from([0]), sign('sha256', content, privateKey));
  const lines = sequence(content, algorithm, signature)
    .toString('base64')
    .replace(/.{64}/g, '$&\n')
    .trimEnd();
  return {
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    cert: `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`,
  };
}

function authority(): Buffer {
  const critical = tlv(0x01, Buffer.from([0xff]));
  return sequence(oid(BASIC_CONSTRAINTS), critical, tlv(0x04, sequence(critical)));
}

function alternativeNames(names: string[]): Buffer {
  const encoded = names.map((name) =>
    isIPv4(name) ? tlv(0x87, Buffer.from(name.split('.').map(Number))) : tlv(0x82, Buffer.from(name)),
  );
  return sequence(oid(ALTERNATIVE_NAMES), tlv(0x04, sequence(...encoded)));
}

function time(date: Date): Buffer {
  return tlv(0x18, Buffer.from(`${date.toISOString().replace(/\D/g, '').slice(0, 14)}Z`));
}

function oid(encoded: Buffer): Buffer {
  return tlv(0x06, encoded);
}

function sequence(...parts: Buffer[]): Buffer {
  return tlv(0x30, ...parts);
}

/** DER: tag, length, content. */
function tlv(tag: number, ...parts: Buffer[]): Buffer {
  const content = Buffer.concat(parts);
  const { length } = content;
  const head =
    length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...head]), content]);
}
