/** The part of postject that is used; it brings no types. */
declare module 'postject' {
  export function inject(
    file: string,
    section: string,
    data: Uint8Array,
    options: { sentinelFuse: string; overwrite?: boolean },
  ): Promise<void>;
}
