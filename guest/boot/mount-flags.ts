/** Flags of mount(2) and umount2(2), from linux/mount.h (all architectures). */

export const MS_RDONLY = 1;
export const MS_NOSUID = 2;
export const MS_NODEV = 4;
export const MS_NOEXEC = 8;
export const MS_REMOUNT = 32;
export const MS_BIND = 4096;
export const MS_MOVE = 8192;

export const MNT_DETACH = 2;
