/** As much of ELF64 as the builder needs: is it a kernel for us, how long is it, what are its notes. */
import { KernelImageError } from '../errors.ts';

const ELF_MAGIC = 0x464c457f; // "\x7fELF", little-endian
const EI_CLASS_64 = 2;
const EI_DATA_LSB = 1;
const EM_X86_64 = 62;
const EHDR_SIZE = 64;
const PHDR_SIZE = 56;
const SHDR_SIZE = 64;
const SHT_NOBITS = 8;
/** Largest note segment that is walked, bytes (a kernel's is half a KiB). */
const MAX_NOTES = 1024 * 1024;

export const PT_LOAD = 1;
export const PT_INTERP = 3;
export const PT_NOTE = 4;

/** XEN_ELFNOTE_PHYS32_ENTRY: the 32-bit entry point that QEMU starts a PVH kernel at (xen/interface/elfnote.h). */
const XEN_PHYS32_ENTRY = 18;

export interface Segment {
  type: number;
  offset: number;
  fileSize: number;
}

export interface Elf {
  segments: Segment[];
  /** Where the last segment, section or header ends, bytes; what follows is no part of the ELF file. */
  end: number;
}

/** Whether the bytes start like an ELF file. */
export function isElf(bytes: Uint8Array): boolean {
  return bytes.length >= EHDR_SIZE && viewOf(bytes).getUint32(0, true) === ELF_MAGIC;
}

/**
 * Parses an x86-64 ELF file's program and section headers.
 * @throws {KernelImageError} not ELF64 x86-64 little-endian, or a part lies outside the bytes.
 */
export function parseElf(bytes: Uint8Array): Elf {
  if (!isElf(bytes)) throw new KernelImageError('not an ELF file');
  const view = viewOf(bytes);
  if (bytes[4] !== EI_CLASS_64 || bytes[5] !== EI_DATA_LSB || view.getUint16(18, true) !== EM_X86_64)
    throw new KernelImageError('an ELF file, but not for x86-64');
  const segments: Segment[] = [];
  let end = EHDR_SIZE;
  const cover = (offset: number, size: number, what: string) => {
    if (offset + size > bytes.length)
      throw new KernelImageError(`truncated: ${what} ends at byte ${offset + size} of ${bytes.length}`);
    end = Math.max(end, offset + size);
  };
  const table = (offset: number, entry: number, count: number, least: number, what: string) => {
    if (count > 0 && entry < least)
      throw new KernelImageError(`damaged: ${what} has entries of ${entry} bytes`);
    cover(offset, entry * count, what);
  };
  const programHeaders = u64(view, 32);
  const [entrySize, count] = [view.getUint16(54, true), view.getUint16(56, true)];
  table(programHeaders, entrySize, count, PHDR_SIZE, 'the program header table');
  for (let index = 0; index < count; index++) {
    const at = programHeaders + index * entrySize;
    const segment = {
      type: view.getUint32(at, true),
      offset: u64(view, at + 8),
      fileSize: u64(view, at + 32),
    };
    cover(segment.offset, segment.fileSize, `segment ${index}`);
    segments.push(segment);
  }
  const sections = u64(view, 40);
  const [sectionSize, sectionCount] = [view.getUint16(58, true), view.getUint16(60, true)];
  table(sections, sectionSize, sectionCount, SHDR_SIZE, 'the section header table');
  for (let index = 0; index < sectionCount; index++) {
    const at = sections + index * sectionSize;
    if (view.getUint32(at + 4, true) === SHT_NOBITS) continue;
    cover(u64(view, at + 24), u64(view, at + 32), `section ${index}`);
  }
  return { segments, end };
}

/** The 32-bit PVH entry point from the Xen note, or null when the kernel was built without CONFIG_PVH. */
export function pvhEntry(bytes: Uint8Array, elf: Elf): number | null {
  for (const segment of elf.segments) {
    if (segment.type !== PT_NOTE || segment.fileSize > MAX_NOTES) continue;
    const notes = bytes.subarray(segment.offset, segment.offset + segment.fileSize);
    for (const note of walkNotes(notes)) {
      if (note.name !== 'Xen' || note.type !== XEN_PHYS32_ENTRY || note.description.length < 4) continue;
      return viewOf(note.description).getUint32(0, true);
    }
  }
  return null;
}

/** The interpreter of a dynamically linked program, or null. */
export function interpreterOf(bytes: Uint8Array, elf: Elf): string | null {
  const segment = elf.segments.find(({ type }) => type === PT_INTERP);
  if (!segment) return null;
  const path = Buffer.from(bytes.subarray(segment.offset, segment.offset + segment.fileSize));
  return path.toString('utf8').replace(/\0.*$/s, '');
}

interface Note {
  name: string;
  type: number;
  description: Uint8Array;
}

function* walkNotes(notes: Uint8Array): Generator<Note> {
  const view = viewOf(notes);
  let at = 0;
  while (at + 12 <= notes.length) {
    const nameSize = view.getUint32(at, true);
    const descriptionSize = view.getUint32(at + 4, true);
    const nameAt = at + 12;
    const descriptionAt = nameAt + align4(nameSize);
    if (descriptionAt + descriptionSize > notes.length) return;
    yield {
      name: Buffer.from(notes.subarray(nameAt, nameAt + nameSize))
        .toString('latin1')
        .replace(/\0.*$/s, ''),
      type: view.getUint32(at + 8, true),
      description: notes.subarray(descriptionAt, descriptionAt + descriptionSize),
    };
    at = descriptionAt + align4(descriptionSize);
  }
}

function align4(size: number): number {
  return Math.ceil(size / 4) * 4;
}

/** A u64 as a number; one beyond 2^53 becomes a number that lies outside every file, and is refused there. */
function u64(view: DataView, offset: number): number {
  return Number(view.getBigUint64(offset, true));
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
