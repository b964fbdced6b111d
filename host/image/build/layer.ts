/** Applies a layer to a tree: whiteouts of the OCI image format, and attributes that an image can keep. */
import { ImageArchiveError } from '../errors.ts';
import type { Section } from './section.ts';
import { type IndexOptions, readTarIndex, type TarEntry } from './tar-index.ts';
import { type FileTree, nameParts, quote } from './tree.ts';

export interface LayerOptions extends IndexOptions {
  /** 0 is the lowest. */
  layer: number;
  /** `.wh.NAME` hides NAME of lower layers. False: a plain root file system, where such a name is like any other. */
  whiteouts: boolean;
  /** Called for an attribute that is left out. */
  onDropped?: (attribute: string) => void;
}

const WHITEOUT = '.wh.';
const OPAQUE = '.wh..wh..opq';
/** Other marks that begin so are aufs's own. */
const AUFS = '.wh..wh.';
/** Name spaces that squashfs has. POSIX ACLs (system.) are not among them. */
const KEPT = /^(user|trusted|security)\../;
/** What overlayfs notes for itself: it means nothing elsewhere, and in an image's layer it would mislead the guest's. */
const OVERLAY = /^(trusted|user)\.overlay\./;

/** @throws {ImageArchiveError} the message begins with the archive's name */
export async function applyLayer(tree: FileTree, archive: Section, options: LayerOptions): Promise<void> {
  for await (const entry of readTarIndex(archive, options)) {
    try {
      applyEntry(tree, entry, options);
    } catch (error) {
      if (error instanceof ImageArchiveError) error.message = `${archive.name}: ${error.message}`;
      throw error;
    }
  }
}

function applyEntry(tree: FileTree, entry: TarEntry, options: LayerOptions): void {
  const { layer, whiteouts, onDropped } = options;
  if (whiteouts && applyWhiteout(tree, entry.name, layer)) return;
  if (entry.xattrs) {
    const kept = new Map<string, Buffer>();
    for (const [name, value] of entry.xattrs) {
      if (KEPT.test(name) && !(whiteouts && OVERLAY.test(name))) kept.set(name, value);
      else onDropped?.(name);
    }
    entry.xattrs = kept.size > 0 ? kept : null;
  }
  tree.put(entry, layer);
}

/** @returns whether the name was a mark. */
function applyWhiteout(tree: FileTree, name: string, layer: number): boolean {
  if (!name.includes(WHITEOUT)) return false;
  const parts = nameParts(name);
  const base = parts.pop();
  if (!base?.startsWith(WHITEOUT)) return false;
  if (base === OPAQUE) {
    tree.hideContent(parts, layer);
    return true;
  }
  // The names of aufs's own bookkeeping, in very old images.
  if (base.startsWith(AUFS)) return true;
  const hidden = base.slice(WHITEOUT.length);
  if (hidden === '' || hidden === '.' || hidden === '..')
    throw new ImageArchiveError(`${quote(name)} hides no name that can be`);
  tree.hide([...parts, hidden], layer);
  return true;
}
