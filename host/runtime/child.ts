/** What all children have: messages, of which the last are kept, and an end. */
import { Socket } from 'node:net';
import type { ExitStatus, Native } from '../../native/face.ts';
import { deferred } from '../lib/deferred.ts';
import { TextTail } from '../lib/text-tail.ts';

export interface ChildEnd {
  exited: Promise<ExitStatus>;
  /** SIGKILL; does nothing to one that has ended. */
  kill(): void;
}

const SIGKILL = 9;
const MESSAGES = 4096;

/** The last of what comes through a pipe, which is taken over. */
export function readMessages(pipe: number): TextTail {
  const tail = new TextTail(MESSAGES);
  const socket = new Socket({ fd: pipe, readable: true, writable: false });
  socket.on('data', (chunk) => tail.push(chunk));
  socket.on('error', () => {});
  // The exit is what keeps us waiting, not the pipe.
  socket.unref();
  return tail;
}

/** Reaps a child when it ends; takes `pidfd` over. */
export function watchExit(native: Native, pid: number, pidfd: number): ChildEnd {
  const { promise, resolve } = deferred<ExitStatus>();
  let gone = false;
  native.watch(pidfd, 1, () => {
    const status = native.waitPid(pid);
    if (status === null) return;
    gone = true;
    native.unwatch(pidfd);
    native.close(pidfd);
    resolve(status);
  });
  return {
    exited: promise,
    kill() {
      if (!gone) native.killPidfd(pidfd, SIGKILL);
    },
  };
}
