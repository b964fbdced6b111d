/** A QEMU in this process, as far as a Vm can tell: ports with a FakeGuest behind them, a monitor, a console, an end. */

import { closeSync, mkdtempSync, rmSync, writeSync } from 'node:fs';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { TextTail } from '../../host/lib/text-tail.ts';
import type { Qemu } from '../../host/runtime/launch.ts';
import type { RunFolder } from '../../host/runtime/run-folder.ts';
import type { VmRecord } from '../../host/runtime/types.ts';
import type { ExitStatus } from '../../native/face.ts';
import { loadNative } from '../../native/load.ts';
import { FakeGuest } from './fake-guest.ts';
import { socketPair } from './socket-pairs.ts';

/** The monitor's side that QEMU has. Answers what a Vm asks; `refuse` makes it fail. */
export class FakeMonitor {
  readonly #socket: Socket;
  readonly commands: string[] = [];
  refuse = false;
  onCommand: (command: string, args: Record<string, unknown>) => void = () => {};
  /** What a command returns, where it is not nothing. */
  returns: (command: string) => object | undefined = () => undefined;

  constructor(socket: Socket) {
    this.#socket = socket;
    let rest = '';
    socket.on('data', (chunk) => {
      const lines = `${rest}${chunk}`.split('\n');
      rest = lines.pop() as string;
      for (const line of lines) this.#answer(JSON.parse(line));
    });
  }

  greet(): void {
    this.send({
      QMP: { version: { qemu: { major: 7, minor: 2, micro: 22 }, package: '' }, capabilities: [] },
    });
  }

  event(event: string, data: object = {}): void {
    this.send({ event, data, timestamp: { seconds: 1, microseconds: 1 } });
  }

  send(message: object | string): void {
    this.#socket.write(typeof message === 'string' ? message : `${JSON.stringify(message)}\r\n`);
  }

  close(): void {
    this.#socket.end();
  }

  #answer(request: { execute: string; arguments?: Record<string, unknown>; id: number }): void {
    const { execute, arguments: args = {}, id } = request;
    this.commands.push(execute);
    this.onCommand(execute, args);
    if (this.refuse) {
      this.send({ error: { class: 'GenericError', desc: 'not \u001b today' }, id });
      return;
    }
    const chardevs = [
      { label: 'control', filename: 'unix:' },
      { label: 'console', filename: 'pty:/dev/pts/42' },
    ];
    this.send({ return: this.returns(execute) ?? (execute === 'query-chardev' ? chardevs : {}), id });
  }
}

export interface FakeQemu {
  qemu: Qemu;
  guest: Promise<FakeGuest>;
  monitor: Promise<FakeMonitor>;
  /** Calls of `kill`. */
  kills: number;
  console(text: string): void;
  /** Ends QEMU: its sockets close, then its exit is seen. */
  die(exit: Partial<ExitStatus>): Promise<void>;
}

export async function fakeQemu(): Promise<FakeQemu> {
  const { ports, guest } = await FakeGuest.prepare();
  const qmp = await socketPair();
  const [consolePipe, consoleEnd] = loadNative().pipe('read', 0);
  const monitor = qmp.peer.then((socket) => new FakeMonitor(socket));
  let exit!: (status: ExitStatus) => void;
  const exited = new Promise<ExitStatus>((resolve) => {
    exit = resolve;
  });
  let dead = false;
  const fake: FakeQemu = {
    qemu: {
      pid: 4_194_300,
      startTime: 1,
      ports: ports as Qemu['ports'],
      qmp: qmp.connect,
      consolePipe,
      state: null,
      messages: new TextTail(4096),
      exited,
      kill: () => {
        fake.kills++;
        void fake.die({ signal: 9 });
      },
    },
    guest,
    monitor,
    kills: 0,
    console: (text) => void writeSync(consoleEnd, text),
    async die(status) {
      if (dead) return;
      dead = true;
      const [agent, end] = await Promise.all([guest, monitor]);
      agent.finish();
      end.close();
      closeSync(consoleEnd);
      exit({ pid: fake.qemu.pid, userMicroseconds: 0, systemMicroseconds: 0, ...status });
    },
  };
  return fake;
}

/** A run folder that is only a temporary one. `records`: what was written, as it was then. */
export function fakeFolder(t: {
  teardown(fn: () => void): void;
}): RunFolder & { records: VmRecord[]; removed: boolean } {
  const path = mkdtempSync(join(tmpdir(), 'yavm-vm-'));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return {
    id: 'tobikuda',
    path,
    records: [],
    removed: false,
    write(record) {
      this.records.push(structuredClone(record));
    },
    remove() {
      this.removed = true;
    },
  };
}

export function fakeRecord(): VmRecord {
  return {
    id: 'tobikuda',
    title: 'test',
    supervisor: { pid: process.pid, startTime: 1 },
    qemu: { pid: 4_194_300, startTime: 1 },
    state: 'new',
    started: '2026-01-01T00:00:00.000Z',
    memoryMiB: 512,
    cpus: 1,
    accel: 'tcg',
    start: 'boot',
    layers: [],
    hostname: 'golem',
    console: null,
  };
}
