/** Archives, for those that transfer directories. */
export { type FilePatterns, type Fileset, parseFileset } from './fileset.ts';
export { ARCHIVE_FORMATS, type ArchiveFormat, parseArchiveFormat } from './format.ts';
export { type ArchiveLimits, DEFAULT_LIMITS } from './limits.ts';
export { type ArchiveOptions, packArchive } from './pack.ts';
export { unpackArchive } from './unpack.ts';
