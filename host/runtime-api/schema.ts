/**
 * The messages on the wire as data: package `ya_runtime_api`, proto3. Text is declared as bytes, which look the same on
 * the wire: protobufjs would repair what is not UTF-8, and we refuse it; a map is what it is on the wire, too, a list
 * of entries.
 */
import protobuf from 'protobufjs/light.js';

const text = (id: number) => ({ type: 'bytes', id });
const bytes = text;
const list = (type: string, id: number) => ({ type, id, rule: 'repeated' });

const root = protobuf.Root.fromJSON({
  nested: {
    Request: {
      fields: {
        id: { type: 'uint64', id: 1 },
        hello: { type: 'Hello', id: 2 },
        run: { type: 'Run', id: 10 },
        kill: { type: 'Kill', id: 11 },
        shutdown: { type: 'Empty', id: 12 },
        network: { type: 'CreateNetwork', id: 30 },
      },
    },
    Response: {
      fields: {
        event: { type: 'bool', id: 1 },
        id: { type: 'uint64', id: 2 },
        error: { type: 'Error', id: 3 },
        hello: { type: 'Hello', id: 4 },
        run: { type: 'Process', id: 10 },
        kill: { type: 'Empty', id: 11 },
        shutdown: { type: 'Empty', id: 12 },
        status: { type: 'Status', id: 20 },
        network: { type: 'Endpoint', id: 30 },
      },
    },
    Empty: { fields: {} },
    Hello: { fields: { version: text(1) } },
    Run: { fields: { bin: text(1), args: list('bytes', 2), workDir: text(3) } },
    Kill: { fields: { pid: { type: 'uint64', id: 1 }, signal: { type: 'int32', id: 2 } } },
    CreateNetwork: {
      fields: {
        networks: list('Network', 1),
        hosts: list('Entry', 2),
        interface: { type: 'int32', id: 3 },
      },
    },
    Network: { fields: { address: text(1), gateway: text(2), mask: text(3), interfaceAddress: text(4) } },
    Entry: { fields: { key: text(1), value: text(2) } },
    Error: { fields: { code: { type: 'int32', id: 1 }, message: text(2) } },
    Process: { fields: { pid: { type: 'uint64', id: 1 } } },
    Status: {
      fields: {
        pid: { type: 'uint64', id: 1 },
        running: { type: 'bool', id: 2 },
        returnCode: { type: 'int32', id: 3 },
        stdout: bytes(4),
        stderr: bytes(5),
      },
    },
    Endpoint: {
      fields: {
        unixStream: text(1),
        unixDatagram: text(2),
        udpDatagram: text(3),
        tcpListener: text(4),
        tcpStream: text(5),
      },
    },
  },
});

export const RequestType = root.lookupType('Request');
export const ResponseType = root.lookupType('Response');
