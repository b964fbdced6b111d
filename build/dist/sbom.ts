/** The software bill of materials: CycloneDX 1.5, from the lock file, Debian's packages and what is pinned. */
import { readFileSync } from 'node:fs';

export interface Component {
  name: string;
  version: string;
  /** Package URL. */
  purl: string;
  /** As `package.json` states it; absent: unknown. */
  license?: string;
  /** `sha512-…` of the lock file, base64, or a SHA-256 in hex. */
  integrity?: string;
}

interface LockEntry {
  version?: string;
  license?: string;
  integrity?: string;
}

/** The packages of `folders` (paths below the top, as in the lock file). @throws {Error} for one that it does not list. */
export function npmComponents(folders: readonly string[], lockFile: string): Component[] {
  const { packages } = JSON.parse(readFileSync(lockFile, 'utf8')) as { packages: Record<string, LockEntry> };
  return folders.map((folder) => {
    const { version, license, integrity } = packages[folder] ?? {};
    if (version === undefined) throw new Error(`${lockFile} lists no ${folder}`);
    const name = folder.slice(folder.lastIndexOf('node_modules/') + 'node_modules/'.length);
    return { name, version, purl: `pkg:npm/${name.replace('@', '%40')}@${version}`, license, integrity };
  });
}

export function debianComponent(name: string, version: string, sha256?: string): Component {
  const purl = `pkg:deb/debian/${name}@${encodeURIComponent(version)}?arch=amd64`;
  return { name, version, purl, integrity: sha256 };
}

/** @param epoch Seconds since 1970: when it was made. */
export function sbomText(
  program: { name: string; version: string },
  components: Component[],
  epoch: number,
): string {
  const sorted = [...components].sort((a, b) => (a.purl < b.purl ? -1 : 1));
  const document = {
    bomFormat: 'CycloneDX',
    specVersion: '1.5',
    version: 1,
    metadata: {
      timestamp: new Date(epoch * 1000).toISOString(),
      component: { type: 'application', ...program, 'bom-ref': `${program.name}@${program.version}` },
    },
    components: sorted.map(({ name, version, purl, license, integrity }) => ({
      type: 'library',
      'bom-ref': purl,
      name,
      version,
      purl,
      // Expressions are their own field.
      ...(license && {
        licenses: [/ (OR|AND) /.test(license) ? { expression: license } : { license: { id: license } }],
      }),
      ...(integrity && { hashes: [hashOf(integrity)] }),
    })),
  };
  return `${JSON.stringify(document, null, 2)}\n`;
}

function hashOf(integrity: string): { alg: string; content: string } {
  const base64 = /^sha512-(.+)$/.exec(integrity)?.[1];
  if (base64 === undefined) return { alg: 'SHA-256', content: integrity };
  return { alg: 'SHA-512', content: Buffer.from(base64, 'base64').toString('hex') };
}
