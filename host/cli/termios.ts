/** The one bit of a terminal's mode that Node does not reach. */
import { loadNative } from '../../native/load.ts';

/** asm-generic/ioctls.h: read and set a terminal's mode at once. */
const TCGETS = 0x5401;
const TCSETS = 0x5402;
/** struct termios of the kernel (asm-generic/termbits.h): four u32 flags (input, output, control, local), line, 19 characters. */
const TERMIOS_SIZE = 36;
const OUTPUT_FLAGS = 4;
const OPOST = 0o1;

/**
 * Turns output processing off. Node's raw mode leaves it on, so that every `\n` becomes `\r\n`; but the terminal in the
 * VM has done that already, and a program that moves the cursor down with a bare `\n` would be thrown to column one.
 * `setRawMode(false)` undoes this too: it puts back what the terminal was set to before raw mode.
 * @returns false when it cannot be done (no addon, no terminal): everything works, but for those programs.
 */
export function passOutputThrough(fd: number): boolean {
  try {
    const native = loadNative();
    const mode = new Uint8Array(TERMIOS_SIZE);
    native.ioctlBuffer(fd, TCGETS, mode);
    const view = new DataView(mode.buffer);
    view.setUint32(OUTPUT_FLAGS, view.getUint32(OUTPUT_FLAGS, true) & ~OPOST, true);
    native.ioctlBuffer(fd, TCSETS, mode);
    return true;
  } catch {
    return false;
  }
}
