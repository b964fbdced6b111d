/** The provider's switches for the manifest's checks, by environment variables: the spec's exe-unit.md, 10.4. */

const COMPONENTS = [
  'manifest_signature_validation',
  'manifest_compliance',
  'manifest_inet_url_compliance',
  'manifest_script_compliance',
] as const;
export type PolicyComponent = (typeof COMPONENTS)[number];

export interface Policy {
  /** Checks that are switched off. */
  disabled: ReadonlySet<PolicyComponent>;
  /** Properties whose values need no check; null: whatever the value. */
  trusted: ReadonlyMap<string, readonly string[] | null>;
}

/** Reads `POLICY_DISABLE_COMPONENT` (names, or `all`) and `POLICY_TRUST_PROPERTY` (`name` or `name=value|value`), both lists with commas. Unknown names are ignored. */
export function readPolicy(environment: Readonly<Record<string, string | undefined>>): Policy {
  const items = (name: string) =>
    (environment[name] ?? '')
      .split(',')
      .map((item) => item.trim())
      .filter((item) => item !== '');
  const named = items('POLICY_DISABLE_COMPONENT').map((name) => name.toLowerCase());
  return {
    disabled: new Set(COMPONENTS.filter((name) => named.includes('all') || named.includes(name))),
    trusted: new Map(items('POLICY_TRUST_PROPERTY').map(parseTrusted)),
  };
}

function parseTrusted(item: string): [name: string, values: string[] | null] {
  const at = item.indexOf('=');
  return at < 0 ? [item, null] : [item.slice(0, at), item.slice(at + 1).split('|')];
}
