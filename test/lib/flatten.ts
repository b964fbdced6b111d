/** Layers of tests applied one over the other, as lines. */
import { applyLayer } from '../../host/image/build/layer.ts';
import { bytesSection } from '../../host/image/build/section.ts';
import { type Content, readTarIndex, type TarEntry } from '../../host/image/build/tar-index.ts';
import { FileTree, type Inode, type Node } from '../../host/image/build/tree.ts';
import { layerTar, type TreeItem } from './layer-tar.ts';

const signal = new AbortController().signal;

/** Time of directories that no layer has. */
export const IMPLIED_TIME = 7;

export async function flattenTars(
  layers: readonly Uint8Array[],
  options: { whiteouts?: boolean; onDropped?: (attribute: string) => void } = {},
): Promise<FileTree> {
  const tree = new FileTree(IMPLIED_TIME);
  for (const [layer, tar] of layers.entries()) {
    const archive = bytesSection(tar, `layer ${layer}`);
    await applyLayer(tree, archive, { whiteouts: true, ...options, layer, signal });
  }
  return tree;
}

/** Lines of what layers of items leave, sorted: see {@link treeLines}. */
export async function flatten(...layers: TreeItem[][]): Promise<string[]> {
  return treeLines(await flattenTars(layers.map((items) => layerTar(items))));
}

/** `path kind mode uid:gid = content, or > target, or major:minor`; names of one file have the same `#`. */
export function treeLines(tree: FileTree): string[] {
  const counts = new Map<Inode, string[]>();
  const lines: [path: string, inode: Inode][] = [];
  const visit = (node: Node, path: string): void => {
    lines.push([path === '' ? '/' : path, node.inode]);
    counts.set(node.inode, [...(counts.get(node.inode) ?? []), path]);
    for (const [name, child] of [...(node.children ?? [])].sort(([a], [b]) => (a < b ? -1 : 1)))
      visit(child, path === '' ? name : `${path}/${name}`);
  };
  visit(tree.root, '');
  return lines.map(([path, inode]) => {
    const names = counts.get(inode) as string[];
    const links = names.length > 1 ? ` #${names[0]}` : '';
    return `${path} ${inode.type} ${inode.mode.toString(8)} ${inode.uid}:${inode.gid}${contentOf(inode)}${links}`;
  });
}

function contentOf({ type, content, target, major, minor }: Inode): string {
  if (content) return ` = ${contentBytes(content).toString('latin1')}`;
  if (type === 'symlink') return ` > ${target}`;
  return type === 'character' || type === 'block' ? ` ${major}:${minor}` : '';
}

/** All entries of a tar. */
export async function indexOf(tar: Uint8Array, needsEnd = true): Promise<TarEntry[]> {
  const entries: TarEntry[] = [];
  for await (const entry of readTarIndex(bytesSection(tar, 'tar'), { signal, needsEnd })) entries.push(entry);
  return entries;
}

/** A file's content, its holes as zeros. */
export function contentBytes(content: Content | null): Buffer {
  if (!content) throw new Error('an entry without content');
  const bytes = Buffer.alloc(content.size);
  let at = content.at;
  for (const segment of content.segments ?? [{ at: 0, size: content.size }]) {
    content.archive.read(bytes.subarray(segment.at, segment.at + segment.size), at);
    at += segment.size;
  }
  return bytes;
}
