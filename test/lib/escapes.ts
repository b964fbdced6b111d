/**
 * Ways out of where somebody's files belong, and what comes of each: none leads out. Rows of a kind are in a file of their
 * own and are tested by the suite of their kind; all are listed here, and counted by test/unit/transfer-archive-escapes.test.ts.
 */
import type { ArchiveFormat } from '../../host/transfer/archive/index.ts';
import { ARCHIVE_ESCAPES } from './escapes-archive.ts';
import { CONTAINER_ESCAPES, type ContainerEscape } from './escapes-container.ts';
import { LAYER_ESCAPES } from './escapes-layer.ts';

/** An archive that is unpacked (test/unit/transfer-archive-escapes.test.ts). */
export interface ArchiveEscape {
  kind: 'archive';
  /** What is tried; unique. */
  what: string;
  format: ArchiveFormat;
  make(): Uint8Array;
  code: 'YAVM_E_ARCHIVE' | 'YAVM_E_ARCHIVE_LIMIT';
  /** In the error's message, so that it is refused for what it tries, and not for a slip of the row. */
  says: RegExp;
}

/** A layer of an image (test/unit/image-flatten.test.ts). */
export interface LayerEscape {
  kind: 'layer';
  what: string;
  /** The layer's tar. */
  make(): Uint8Array;
  says: RegExp;
}

export type Escape = ArchiveEscape | ContainerEscape | LayerEscape;

export const ESCAPES: readonly Escape[] = [...ARCHIVE_ESCAPES, ...CONTAINER_ESCAPES, ...LAYER_ESCAPES];
