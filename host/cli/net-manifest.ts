/** The manifest by which a requestor asks for the internet, for activities of this host's own (exe-unit.md 10). Pure. */

/** URLs: only there. */
export type Outbound = 'unrestricted' | { urls: readonly string[] };

/** Milliseconds that it is good for: an agreement's 30 min, and more. */
const VALID_FOR = 24 * 60 * 60_000;

/** As the demand's `golem.srv.comp.payload` has it. The image stays the agreement's. */
export function manifestFor(outbound: Outbound, time: Date): string {
  const out =
    outbound === 'unrestricted'
      ? { unrestricted: { urls: true } }
      : { protocols: protocolsOf(outbound.urls), urls: outbound.urls };
  const manifest = {
    version: '0.1.0',
    createdAt: time.toISOString(),
    expiresAt: new Date(time.getTime() + VALID_FOR).toISOString(),
    payload: [],
    compManifest: { version: '0.1.0', net: { inet: { out } } },
  };
  return Buffer.from(JSON.stringify(manifest)).toString('base64');
}

function protocolsOf(urls: readonly string[]): string[] {
  return [...new Set(urls.map((url) => url.slice(0, url.indexOf(':')).toLowerCase()))];
}
