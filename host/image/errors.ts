/** Why an image file is refused, and why none is built. Each is found before QEMU starts. */
import { YavmError, type YavmErrorOptions } from '../lib/errors.ts';

/** The file cannot be opened or read, or is no regular file. */
export class ImageUnreadableError extends YavmError {
  override name = 'ImageUnreadableError';
  constructor(message: string, options?: YavmErrorOptions) {
    super('YAVM_E_IMAGE_UNREADABLE', message, options);
  }
}

/** The file is something else than a squashfs 4.0 image, or its superblock makes no sense. */
export class NotAnImageError extends YavmError {
  override name = 'NotAnImageError';
  constructor(message: string, options?: YavmErrorOptions) {
    super('YAVM_E_IMAGE_FORMAT', message, options);
  }
}

/** The file ends too early, inside the squashfs or inside the metadata behind it. */
export class ImageTruncatedError extends YavmError {
  override name = 'ImageTruncatedError';
  constructor(message: string, options?: YavmErrorOptions) {
    super('YAVM_E_IMAGE_TRUNCATED', message, options);
  }
}

/** The metadata's CRC-32 does not match its bytes. */
export class ImageChecksumError extends YavmError {
  override name = 'ImageChecksumError';
  constructor(message: string, options?: YavmErrorOptions) {
    super('YAVM_E_IMAGE_CHECKSUM', message, options);
  }
}

/** The metadata is no Docker ContainerConfig in JSON, or a value in it cannot be used. */
export class ImageMetadataError extends YavmError {
  override name = 'ImageMetadataError';
  constructor(message: string, options?: YavmErrorOptions) {
    super('YAVM_E_IMAGE_METADATA', message, options);
  }
}

/** The image is packed in a way that the guest's kernel cannot read. */
export class ImageCompressorError extends YavmError {
  override name = 'ImageCompressorError';
  constructor(message: string, options?: YavmErrorOptions) {
    super('YAVM_E_IMAGE_COMPRESSOR', message, options);
  }
}

/** There is nothing to build from: the reference cannot be read, is no kind of source, or leaves open which image is meant. */
export class ImageSourceError extends YavmError {
  override name = 'ImageSourceError';
  constructor(message: string, options?: YavmErrorOptions) {
    super('YAVM_E_IMAGE_SOURCE', message, options);
  }
}

/** A tar (an archive of images, a layer, a root file system) is damaged, or holds what is refused. */
export class ImageArchiveError extends YavmError {
  override name = 'ImageArchiveError';
  constructor(message: string, options?: YavmErrorOptions) {
    super('YAVM_E_IMAGE_ARCHIVE', message, options);
  }
}

/** A part of an image is not what its digest or size says. */
export class ImageDigestError extends YavmError {
  override name = 'ImageDigestError';
  constructor(message: string, options?: YavmErrorOptions) {
    super('YAVM_E_IMAGE_DIGEST', message, options);
  }
}

/** The image is for another system or processor than the VM's. */
export class ImagePlatformError extends YavmError {
  override name = 'ImagePlatformError';
  constructor(message: string, options?: YavmErrorOptions) {
    super('YAVM_E_IMAGE_PLATFORM', message, options);
  }
}

/** The image cannot be packed or written. */
export class ImageBuildError extends YavmError {
  override name = 'ImageBuildError';
  constructor(message: string, options?: YavmErrorOptions) {
    super('YAVM_E_IMAGE_BUILD', message, options);
  }
}
