/** All layers of a source as one tree: expanded, checked against their digests, applied one over the other. */
import { availableParallelism } from 'node:os';
import type { LayerSource } from '../source/container-image.ts';
import { expand } from './compression.ts';
import { applyLayer } from './layer.ts';
import type { Section } from './section.ts';
import type { Spool } from './spool.ts';
import { FileTree } from './tree.ts';

export interface FlattenOptions {
  layers: readonly LayerSource[];
  /** Time of directories that no layer has, seconds since the epoch. */
  created: number;
  /** Whether the layers are an image's: whiteouts count, and an end mark may be missing. */
  image: boolean;
  /** Where layers are expanded to. */
  folder: string;
  signal: AbortSignal;
  /** Bytes of layers that were read, of all. */
  onRead?: (done: number, total: number) => void;
  /** Said once for each attribute that an image cannot keep. */
  onDropped?: (attribute: string) => void;
}

/** A tree whose content is still in the layers. */
export class Flattened {
  readonly tree: FileTree;
  readonly #spools: Spool[];
  readonly #checks: Promise<void>[];
  readonly #abort: AbortController;

  constructor(tree: FileTree, parts: { spools: Spool[]; checks: Promise<void>[]; abort: AbortController }) {
    this.tree = tree;
    this.#spools = parts.spools;
    this.#checks = parts.checks;
    this.#abort = parts.abort;
  }

  /** Layers that lie there expanded are hashed while their content is packed. @throws {ImageDigestError} one is not what it should be */
  async checked(): Promise<void> {
    await Promise.all(this.#checks);
  }

  /** The error that explains `error`: what is wrong with a layer's bytes says why its content is. */
  async explain(error: unknown, signal: AbortSignal): Promise<unknown> {
    if (signal.aborted) return error;
    const ends = await Promise.allSettled(this.#checks);
    return ends.find((end) => end.status === 'rejected')?.reason ?? error;
  }

  /** Frees what the layers were expanded to. */
  async close(): Promise<void> {
    this.#abort.abort(new Error('the layers are not needed any more'));
    await Promise.allSettled(this.#checks);
    for (const spool of this.#spools.splice(0)) spool.close();
  }
}

/** Layers that are expanded at a time. */
const MOST_AT_ONCE = 4;

/** @throws {YavmError} what expanding and applying a layer throw; the signal's reason */
export async function flatten(options: FlattenOptions): Promise<Flattened> {
  const abort = new AbortController();
  const parts = { spools: [] as Spool[], checks: [] as Promise<void>[], abort };
  const flattened = new Flattened(new FileTree(options.created), parts);
  const signal = AbortSignal.any([options.signal, abort.signal]);
  try {
    const archives = await expandAll(options, signal, parts);
    const dropped = new Set<string>();
    for (const [layer, archive] of archives.entries()) {
      await applyLayer(flattened.tree, archive, {
        layer,
        whiteouts: options.image,
        needsEnd: !options.image,
        signal,
        onDropped(attribute) {
          if (!dropped.has(attribute)) options.onDropped?.(attribute);
          dropped.add(attribute);
        },
      });
    }
    return flattened;
  } catch (error) {
    const reason = await flattened.explain(error, options.signal);
    await flattened.close();
    throw reason;
  }
}

/** In the layers' order, a few at a time. */
async function expandAll(
  { layers, folder, onRead }: FlattenOptions,
  signal: AbortSignal,
  { spools, checks }: { spools: Spool[]; checks: Promise<void>[] },
): Promise<Section[]> {
  const total = layers.reduce((sum, { section }) => sum + section.size, 0);
  let done = 0;
  const onBytes = (count: number) => {
    done += count;
    onRead?.(done, total);
  };
  const defer = (check: Promise<void>) => {
    check.catch(() => {});
    checks.push(check);
  };
  const archives: Section[] = [];
  let next = 0;
  const worker = async () => {
    for (let index = next++; index < layers.length; index = next++) {
      const { section, stored, plain } = layers[index] as LayerSource;
      const expanded = await expand(section, { signal, folder, stored, plain, onBytes, defer });
      if (expanded.spool) spools.push(expanded.spool);
      archives[index] = expanded.section;
    }
  };
  const workers = Array.from({ length: Math.min(MOST_AT_ONCE, availableParallelism()) }, worker);
  const ends = await Promise.allSettled(workers);
  for (const end of ends) if (end.status === 'rejected') throw end.reason;
  return archives;
}
