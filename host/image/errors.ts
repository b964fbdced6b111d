/** Why an image file is refused. Each is found before QEMU starts. */
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
