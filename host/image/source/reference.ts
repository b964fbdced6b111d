/** What `--image` and `image build` take, as text: a path, or a kind, a path and perhaps a tag. Pure but for `exists`. */
import { ImageSourceError } from '../errors.ts';

export type ReferenceKind = 'path' | 'docker-archive' | 'oci' | 'oci-archive';

export interface Reference {
  /** `path`: what is there decides. */
  kind: ReferenceKind;
  path: string;
  /** Which of several images: a tag, a whole name, or a digest. */
  tag?: string;
}

const KINDS = ['docker-archive', 'oci', 'oci-archive'] as const;
/** Kinds of other tools that read from elsewhere, and how the image gets here. */
const ELSEWHERE = /^(docker|docker-daemon|containers-storage|registry|dir|sif):/;

/**
 * | text                          | meaning                                                            |
 * |-------------------------------|--------------------------------------------------------------------|
 * | `PATH`                        | .gvmi or squashfs, folder, OCI layout, tar, archive: by its content |
 * | `docker-archive:FILE[:TAG]`   | what `docker save` writes                                          |
 * | `oci:DIR[:TAG]`               | an OCI image layout                                                |
 * | `oci-archive:FILE[:TAG]`      | the same in a tar                                                  |
 *
 * A path may have colons: the longest that is there counts.
 * @throws {ImageSourceError} no path, or a kind that is none of these
 */
export function parseReference(text: string, exists: (path: string) => boolean): Reference {
  const kind = KINDS.find((each) => text.startsWith(`${each}:`));
  if (!kind) {
    if (text === '') throw new ImageSourceError('the reference to an image is empty');
    if (!ELSEWHERE.test(text) || exists(text)) return { kind: 'path', path: text };
    throw new ImageSourceError(`'${text}': images are not fetched from there`, { hint: SAVE_HINT });
  }
  const rest = text.slice(kind.length + 1);
  for (let end = rest.length; end > 0; end = rest.lastIndexOf(':', end - 1))
    if (exists(rest.slice(0, end))) return reference(kind, rest, end);
  const colon = rest.indexOf(':');
  return reference(kind, rest, colon < 0 ? rest.length : colon);
}

/** How to get an image out of docker, for hints. */
export const SAVE_HINT =
  'Save it first: docker save NAME -o image.tar, then --image docker-archive:image.tar.';

function reference(kind: ReferenceKind, rest: string, end: number): Reference {
  const path = rest.slice(0, end);
  if (path === '') throw new ImageSourceError(`'${kind}:${rest}': a path is missing`);
  return end < rest.length ? { kind, path, tag: rest.slice(end + 1) } : { kind, path };
}
