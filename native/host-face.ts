/**
 * What the addon has under Node alone; /init is built without it, and pays nothing for it. Rules as in face.ts: one system
 * call or a short fixed series, errors as {@link NativeError}, descriptors are plain integers and close-on-exec.
 */
import type { Native } from './face.ts';

export interface HostNative extends Native {
  /**
   * renameat2(2) with RENAME_EXCHANGE: two paths of one file system change places, at once, folders too; both must be there.
   * @throws EINVAL, ENOSYS: this file system, or this kernel, cannot
   */
  exchange(one: string, other: string): void;
  /**
   * Two sockets of one cable, non-blocking, each with buffers of `buffer` bytes where the system allows it. `udp`: on
   * 127.0.0.1, each connected to the other, so that nobody else's datagrams arrive. `unix-datagram`: a pair without names;
   * a full buffer is EAGAIN there, not a loss. `tcp`: on 127.0.0.1, TCP_NODELAY. `unix`: a stream pair without names.
   */
  cable(kind: 'udp' | 'unix-datagram' | 'tcp' | 'unix', buffer: number): [near: number, far: number];
  /** A UDP socket on 127.0.0.1 (a port of the system's choice, returned), connected to a numeric IPv4 address. */
  udpConnect(address: string, port: number, buffer: number): [fd: number, port: number];
  /** Datagrams of fewer than `least` bytes do not arrive at this UDP socket from now on: the kernel drops them. */
  dropShort(fd: number, least: number): void;
  /** A TCP socket that is connecting (non-blocking) to a numeric IPv4 address; TCP_NODELAY. */
  tcpConnect(address: string, port: number): number;
  /** A TCP socket listening on 127.0.0.1 for one connection, and its port. */
  tcpListen(): [fd: number, port: number];
  /**
   * recvmmsg(2): datagrams into slots of `stride` bytes of `into`, as many as have come and fit; their lengths into `lengths`
   * (a datagram longer than its slot has the length 0xffffffff and is lost). Returns their number: 0 when none is there. A
   * peer that is gone (ECONNREFUSED) is no error, it may come back.
   */
  receiveDatagrams(fd: number, into: Uint8Array, stride: number, lengths: Uint32Array): number;
  /**
   * sendmmsg(2) of datagrams `first`…`count` − 1 at `offsets` in `from`. Returns how many it is done with, from `first` on:
   * fewer than all when the socket has no room (EAGAIN, ENOBUFS). One that cannot go (EMSGSIZE, ECONNREFUSED) is done with too,
   * and its length is set to 0.
   */
  sendDatagrams(
    fd: number,
    from: Uint8Array,
    offsets: Uint32Array,
    lengths: Uint32Array,
    first: number,
    count: number,
  ): number;
  /** One non-blocking read(2) of a stream into part of a buffer: bytes, 0 at the end, −1 when nothing is there. */
  receiveBytes(fd: number, into: Uint8Array, offset: number, length: number): number;
  /** One non-blocking write(2), without SIGPIPE: bytes taken, −1 when there is no room. @throws EPIPE, ECONNRESET */
  sendBytes(fd: number, from: Uint8Array, offset: number, length: number): number;
}
