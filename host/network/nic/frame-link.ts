/** How a relay or a filter sees a cable: frames in batches. Implementations: datagram-link.ts, stream-link.ts. */

/** Frames as views of one buffer: valid until the callback returns. A frame's Ethernet header is at its offset. */
export interface FrameBatch {
  bytes: Uint8Array;
  count: number;
  offsets: Uint32Array;
  /** Bytes. */
  lengths: Uint32Array;
}

/** Lives in the worker's thread. Nothing here throws on what the other side sends. */
export interface FrameLink {
  /** Must be set before the first turn of the event loop; a batch has at least one frame. */
  onBatch: (batch: FrameBatch) => void;
  /** The other side is gone (null), or cannot be understood. Called once; nothing comes after it. */
  onEnd: (error: Error | null) => void;
  /** There is room again after `send` said no, or after `pressed` was true. */
  onRoom: () => void;
  /** Copies a frame; it goes out with the next flush, which also comes by itself at the turn's end. False: no room, dropped. */
  send(bytes: Uint8Array, offset: number, length: number): boolean;
  flush(): void;
  /** Whether more is queued than is good: who can, should stop reading what leads here. */
  readonly pressed: boolean;
  /** Stops and resumes reading: what comes meanwhile waits in the kernel, and with datagrams may be lost there. */
  pause(): void;
  resume(): void;
  /** Frames and bytes that came and went, and that were dropped: no room, too long, or no frame. */
  readonly counters: {
    framesIn: number;
    bytesIn: number;
    framesOut: number;
    bytesOut: number;
    dropped: number;
  };
  /** Closes the descriptor; what is queued is lost. `onEnd` is not called. */
  close(): void;
}

/** Sees a frame that passes a guest's NIC (`in`: the guest gets it); must copy what it keeps. The worker's capture is one. */
export type FrameTap = (bytes: Uint8Array, offset: number, length: number, direction: 'in' | 'out') => void;
