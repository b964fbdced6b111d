/**
 * The requestor's manifest, which the provider's negotiator has checked before it signed: the spec's exe-unit.md,
 * section 10. Signatures, certificates and dates are not looked at here, as upstream.
 */
import { YavmError } from '../lib/errors.ts';
import { Decoder } from './decode.ts';
import { parseMatch, type RuleMatch } from './rule-match.ts';

export { checkScript, type ScriptRules, scriptRules } from './script-rules.ts';

export interface ManifestPayload {
  platform?: { arch: string; os: string; osVersion?: string };
  urls: string[];
  /** `sha3:<hex>`. */
  hash: string;
}

/** Where the task may connect to. */
export type OutboundRules =
  | { unrestricted: true; protocols: string[] }
  | { unrestricted: false; protocols: string[]; urls: string[] };

export interface Manifest {
  version: string;
  createdAt: string;
  expiresAt: string;
  metadata?: { name: string; description?: string; version?: string; authors: string[]; homepage?: string };
  payload: ManifestPayload[];
  script?: { commands: string[]; match: RuleMatch };
  /** There: the task wants outbound connections; without `outbound` no rule is given for them. */
  inet?: { outbound?: OutboundRules };
}

const MAX_PAYLOAD = 4 * 1024 * 1024;
const BOUNDS = { depth: 32, values: 100_000, text: MAX_PAYLOAD };
const MAX_ENTRIES = 4096;

const decoder: Decoder = new Decoder('YAVM_E_MANIFEST');

/** Reads the demand's `golem.srv.comp.payload`. @throws {YavmError} YAVM_E_MANIFEST */
export function parseManifest(payload: string): Manifest {
  if (payload.length > 2 * MAX_PAYLOAD) decoder.refuse('manifest', `more than ${2 * MAX_PAYLOAD} characters`);
  let json: unknown;
  try {
    json = JSON.parse(decodePayload(payload));
  } catch (cause) {
    throw new YavmError('YAVM_E_MANIFEST', 'manifest: neither base64 nor escaped JSON', { cause });
  }
  decoder.measure(json, 'manifest', BOUNDS);
  const {
    version,
    createdAt,
    expiresAt,
    metadata,
    payload: parts,
    compManifest,
  } = decoder.fields(json, 'manifest');
  return {
    version: parseVersion(version, 'manifest.version'),
    createdAt: parseDate(createdAt, 'manifest.createdAt'),
    expiresAt: parseDate(expiresAt, 'manifest.expiresAt'),
    metadata: decoder.optional(metadata, parseMetadata),
    payload: decoder.list(parts, 'manifest.payload', MAX_ENTRIES).map(parsePayload),
    ...decoder.optional(compManifest, parseComputation),
  };
}

/**
 * The image for this machine as a task package, `hash:sha3:…:url`; undefined when the manifest has none.
 * @param arch As Rust names it: `x86_64`, `aarch64`.
 */
export function selectPayload(manifest: Manifest, arch: string): string | undefined {
  const fits = manifest.payload.find(
    ({ platform, urls, hash }) =>
      (platform === undefined || (platform.arch === arch && platform.os === 'linux')) &&
      urls.length > 0 &&
      hash !== '',
  );
  return fits && `hash:${fits.hash}:${fits.urls[0]}`;
}

/** Base64 in the standard alphabet, white space ignored; else a text with escapes, with or without its quotes. */
function decodePayload(payload: string): string {
  const dense = payload.replace(/\s+/g, '');
  if (/^[A-Za-z0-9+/]*={0,2}$/.test(dense) && dense.length % 4 === 0 && dense !== '') {
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.from(dense, 'base64'));
  }
  const text = payload.trim();
  if (text.startsWith('{') && isJson(text)) return text;
  const quoted = text.startsWith('"') && text.endsWith('"') && text.length > 1 ? text : `"${text}"`;
  return decoder.text(JSON.parse(quoted), 'manifest');
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

function parseVersion(value: unknown, path: string): string {
  const text = decoder.text(value, path);
  const semantic = /^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$/;
  return semantic.test(text) ? text : decoder.refuse(path, 'not a version');
}

function parseDate(value: unknown, path: string): string {
  const text = decoder.text(value, path);
  const form = /^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$/;
  return form.test(text) && !Number.isNaN(Date.parse(text))
    ? text
    : decoder.refuse(path, 'not a date and time');
}

function parseMetadata(value: unknown): Manifest['metadata'] {
  const path = 'manifest.metadata';
  const { name, description, version, authors, homepage } = decoder.fields(value, path);
  const text = (item: unknown, key: string) =>
    decoder.optional(item, (value) => decoder.text(value, `${path}.${key}`));
  return {
    name: decoder.text(name, `${path}.name`),
    description: text(description, 'description'),
    version: text(version, 'version'),
    authors: decoder.optional(authors, (value) => decoder.texts(value, `${path}.authors`, MAX_ENTRIES)) ?? [],
    homepage: text(homepage, 'homepage'),
  };
}

function parsePayload(value: unknown, index: number): ManifestPayload {
  const path = `manifest.payload[${index}]`;
  const { platform, urls, hash } = decoder.fields(value, path);
  return {
    platform: decoder.optional(platform, (value) => {
      const { arch, os, osVersion } = decoder.fields(value, `${path}.platform`);
      return {
        arch: decoder.text(arch, `${path}.platform.arch`),
        os: decoder.text(os, `${path}.platform.os`),
        osVersion: decoder.optional(osVersion, (value) => decoder.text(value, `${path}.platform.osVersion`)),
      };
    }),
    urls:
      decoder.optional(urls, (value) => decoder.texts(value, `${path}.urls`, MAX_ENTRIES)) ??
      decoder.refuse(`${path}.urls`, 'missing'),
    hash: decoder.text(hash, `${path}.hash`),
  };
}

function parseComputation(value: unknown): Pick<Manifest, 'script' | 'inet'> {
  const path = 'manifest.compManifest';
  const { version, script, net } = decoder.fields(value, path);
  parseVersion(version, `${path}.version`);
  return {
    script: decoder.optional(script, (value) => parseScriptPart(value, `${path}.script`)),
    inet: decoder.optional(net, (value) => parseNet(value, `${path}.net`)),
  };
}

function parseScriptPart(value: unknown, path: string): Manifest['script'] {
  const { commands, match } = decoder.fields(value, path);
  return {
    commands: decoder.texts(commands, `${path}.commands`, MAX_ENTRIES),
    match: parseMatch(decoder, match, `${path}.match`) ?? 'strict',
  };
}

function parseNet(value: unknown, path: string): Manifest['inet'] {
  const { inet } = decoder.fields(value, path);
  return decoder.optional(inet, (value) => {
    const { out } = decoder.fields(value, `${path}.inet`);
    return { outbound: decoder.optional(out, (value) => parseOutbound(value, `${path}.inet.out`)) };
  });
}

function parseOutbound(value: unknown, path: string): OutboundRules {
  const fields = decoder.fields(value, path);
  const list = (item: unknown, key: string) =>
    decoder.optional(item, (value) => decoder.texts(value, `${path}.${key}`, MAX_ENTRIES)) ?? [];
  const protocols = list(fields.protocols, 'protocols');
  const unrestricted = decoder.optional(fields.unrestricted, (value) => {
    const { urls } = decoder.fields(value, `${path}.unrestricted`);
    return urls === true;
  });
  if (unrestricted === true) return { unrestricted, protocols };
  return { unrestricted: false, protocols, urls: list(fields.urls, 'urls') };
}
