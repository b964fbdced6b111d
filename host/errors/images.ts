/** Errors of images, and of transfers to and from VMs. */
import type { Section } from './section.ts';

export const IMAGES = {
  title: 'Images',
  rows: [
    {
      codes: ['YAVM_E_IMAGE_UNREADABLE', 'YAVM_E_IMAGE'],
      meaning: 'the file cannot be opened or read',
      helps: 'its path and permissions',
    },
    {
      codes: ['YAVM_E_IMAGE_FORMAT'],
      meaning: 'no squashfs 4.0 image, or a damaged one',
      helps: 'the message says what it seems to be; fetch or build it again',
    },
    {
      codes: ['YAVM_E_IMAGE_TRUNCATED'],
      meaning: 'the file ends too early',
      helps: 'download or copy it again',
    },
    {
      codes: ['YAVM_E_IMAGE_CHECKSUM'],
      meaning: 'the metadata is damaged',
      helps: 'download or copy it again',
    },
    {
      codes: ['YAVM_E_IMAGE_METADATA'],
      meaning: 'the metadata holds values that cannot be used',
      helps: 'build the image again; the message names the field',
    },
    {
      codes: ['YAVM_E_IMAGE_COMPRESSOR'],
      meaning: "the guest's kernel cannot read this compression",
      helps: 'pack it again, or boot a kernel that can',
    },
    {
      codes: ['YAVM_E_IMAGE_SOURCE'],
      meaning: 'nothing that an image can be built from, or an archive with several images',
      helps: 'the message names what is there; [what can be given](images.md#what-can-be-built-from)',
    },
    {
      codes: ['YAVM_E_IMAGE_ARCHIVE'],
      meaning: 'an archive, a layer or a tar is damaged, or has names or links that are refused',
      helps: 'save or copy it again; the message names the place',
    },
    {
      codes: ['YAVM_E_IMAGE_DIGEST'],
      meaning: 'a part of an image is not what its digest says',
      helps: 'save or copy it again',
    },
    {
      codes: ['YAVM_E_IMAGE_PLATFORM'],
      meaning: 'the image is for another processor or system than linux/amd64',
      helps: '`docker pull --platform linux/amd64 NAME`, and save that',
    },
    {
      codes: ['YAVM_E_DRIVER_LAYER'],
      meaning:
        'a driver layer cannot be built or read: a part is missing, or two are of different versions or kernels',
      helps: 'the message names both; [driver layers](driver-layer.md)',
    },
    {
      codes: ['YAVM_E_IMAGE_BUILD'],
      meaning: 'the image cannot be packed or written',
      helps: 'the message quotes `mksquashfs`; all files of a folder must be readable',
    },
    {
      codes: ['YAVM_E_URL'],
      meaning: "an address of an image or a transfer cannot be read; an image's has no hash",
      helps: 'the message says which part; [how addresses are written](images.md)',
    },
    {
      codes: ['YAVM_E_UNSUPPORTED'],
      meaning: 'asked for is something that ya-vm does not do (yet): a scheme, a kind of hash, a command',
      helps: 'the message names it',
    },
    {
      codes: ['YAVM_E_IMAGE_DOWNLOAD'],
      meaning: 'the image cannot be fetched',
      helps:
        'the message says by what server and why; a full disk: old images were evicted already, make room',
    },
    {
      codes: ['YAVM_E_HTTP'],
      meaning:
        'a server of an image or a transfer is not reached, refuses, or sends something else than it announced',
      helps: 'the message names it, and quotes it; [what is asked of servers](transfers.md#http-and-https)',
    },
    {
      codes: ['YAVM_E_URL_REFUSED'],
      meaning: "a requestor's URL leads to an address that this provider does not connect to",
      helps: '[which ones, and the switches](transfers.md#where-urls-may-lead)',
    },
    {
      codes: ['YAVM_E_PROXY'],
      meaning: "`http_proxy` or `https_proxy` of the provider's environment cannot be used",
      helps: 'the variable: `http://HOST:PORT` or `https://HOST:PORT`',
    },
    {
      codes: ['YAVM_E_IMAGE_HASH'],
      meaning: 'what was fetched is not what was asked for',
      helps: "the requestor's hash is wrong, or the server has another file",
    },
    {
      codes: ['YAVM_E_TRANSFER'],
      meaning: 'a file of this host cannot be read or written for a transfer',
      helps: 'its path and permissions',
    },
    {
      codes: ['YAVM_E_TRANSFER_HASH'],
      meaning: 'what was transferred is not what was asked for',
      helps: "the script's hash is wrong, or the other side has another file; the destination is what it was",
    },
    {
      codes: ['YAVM_E_TRANSFER_SIZE'],
      meaning: 'more or fewer bytes came than the source had announced',
      helps: 'try again; the source changed while it was read, or lies',
    },
    {
      codes: ['YAVM_E_CONTAINER_PATH'],
      meaning: 'a path in the VM is not absolute, or contains `..`',
      helps: 'write `container:/absolute/path`',
    },
    {
      codes: ['YAVM_E_NOT_STARTED'],
      meaning: 'a file of the image is to be read before the activity was started',
      helps: 'send `start` first; before it, only files that were transferred can be read',
    },
    {
      codes: ['YAVM_E_DISK_FULL'],
      meaning: 'a disk of this host is full; a VM that had to write there stood still for 10 s first',
      helps: 'the message names the folder; free space there, or `YAVM_DISK_DIR`',
    },
    {
      codes: ['YAVM_E_MKSQUASHFS_MISSING'],
      meaning: 'images are built by `mksquashfs` and read by `unsquashfs`, which are not installed',
      helps: '`sudo apt-get install squashfs-tools`',
    },
    {
      codes: ['YAVM_E_COMPRESSOR_MISSING'],
      meaning: 'a transfer with `tar.xz` or `tar.bz2` needs a program that is not installed',
      helps: "`sudo apt-get install xz-utils bzip2` on the provider's host",
    },
    {
      codes: ['YAVM_E_TRANSFER_FORMAT'],
      meaning: "a transfer's `format` or `fileset` makes no sense",
      helps: '[what there is](transfers.md)',
    },
    {
      codes: ['YAVM_E_ARCHIVE'],
      meaning: 'an archive is damaged, or holds what may not be unpacked',
      helps: 'the message names the entry; leave it out by `fileset`, or make the archive again',
    },
    {
      codes: ['YAVM_E_ARCHIVE_LIMIT'],
      meaning: 'an archive holds too much: entries, bytes, or more than 1000 times its size',
      helps: 'send it in parts, or as a file that is unpacked in the VM',
    },
    {
      codes: ['YAVM_E_ARCHIVE_SPOOL'],
      meaning: 'there is no room for an archive that must be kept for a moment',
      helps: 'room on the disk that the message names',
    },
    {
      codes: ['YAVM_E_COMPRESSOR'],
      meaning: '`xz` or `bzip2` failed, or does nothing any more',
      helps: 'what it says is quoted',
    },
    {
      codes: ['YAVM_E_IMAGE_CACHE'],
      meaning: 'the folder of images cannot be used',
      helps: "its permissions; what stands in the image's place",
    },
  ],
} as const satisfies Section;
