/** Bytes of a frame → a request, and a response → bytes of a frame. What is decoded is checked before it gets a type. */
import type { Message } from 'protobufjs/light.js';
import protobuf from 'protobufjs/light.js';
import { toError, YavmError } from '../lib/errors.ts';
import type {
  ApiErrorCode,
  ApiNetwork,
  ApiRequest,
  ApiRequestBody,
  ApiResponse,
  Endpoint,
  NetworkInterface,
} from './messages.ts';
import { RequestType, ResponseType } from './schema.ts';

/** A request that cannot be served. Its number is 0 when it could not be read either. */
export class BadRequest extends YavmError {
  override name = 'BadRequest';
  readonly id: bigint;

  constructor(id: bigint, message: string, cause?: unknown) {
    super('YAVM_E_RUNTIME_REQUEST', message, { cause });
    this.id = id;
  }
}

type Fields = Readonly<Record<string, unknown>>;

const KINDS = ['hello', 'run', 'kill', 'shutdown', 'network'] as const;
const INTERFACES: readonly NetworkInterface[] = ['vpn', 'inet'];

/** @throws {BadRequest} */
export function decodeRequest(bytes: Uint8Array): ApiRequest {
  let message: Fields;
  try {
    message = fieldsOf(RequestType.decode(bytes));
  } catch (error) {
    throw new BadRequest(readId(bytes), 'the request cannot be decoded', toError(error));
  }
  const id = unsigned(message.id);
  try {
    return { id, ...decodeBody(message) };
  } catch (error) {
    throw new BadRequest(id, toError(error).message);
  }
}

/** @throws {Error} what is wrong with it */
function decodeBody(message: Fields): ApiRequestBody {
  const kinds = KINDS.filter((kind) => message[kind] !== undefined);
  const [kind] = kinds;
  if (kind === undefined) throw new Error('unknown command');
  if (kinds.length > 1) throw new Error(`several commands in one request: ${kinds.join(', ')}`);
  const body = message[kind] as Fields;
  switch (kind) {
    case 'hello':
      return { kind, version: text(body.version, 'version') };
    case 'run':
      return {
        kind,
        bin: text(body.bin, 'bin'),
        args: items(body.args).map((arg, index) => text(arg, `args[${index}]`)),
        workDir: text(body.workDir, 'work_dir'),
      };
    case 'kill':
      return { kind, pid: Number(unsigned(body.pid)), signal: Number(body.signal ?? 0) };
    case 'shutdown':
      return { kind };
    case 'network':
      return {
        kind,
        interface: interfaceOf(body.interface),
        networks: items(body.networks).map((each) => network(each as Fields)),
        hosts: entries(items(body.hosts)),
      };
  }
}

function network(fields: Fields): ApiNetwork {
  return {
    address: text(fields.address, 'addr'),
    gateway: text(fields.gateway, 'gateway'),
    mask: text(fields.mask, 'mask'),
    interfaceAddress: text(fields.interfaceAddress, 'if_addr'),
  };
}

/** Own keys only: a host named `__proto__` is one like any other. */
function entries(list: readonly unknown[]): Record<string, string> {
  const pairs = list.map((entry) => {
    const { key, value } = entry as Fields;
    return [text(key, 'hosts'), text(value, 'hosts')] as const;
  });
  return Object.assign(Object.create(null), Object.fromEntries(pairs));
}

function interfaceOf(value: unknown): NetworkInterface {
  const found = INTERFACES[Number(value ?? 0)];
  if (found === undefined) throw new Error(`unknown network interface ${value}`);
  return found;
}

// ---------------------------------------------------------------- values

/** A message's own fields: what is not on the wire is undefined, not the prototype's default. */
function fieldsOf(message: Message<object>): Fields {
  return { ...message } as Fields;
}

function items(value: unknown): readonly unknown[] {
  return (value as readonly unknown[] | undefined) ?? [];
}

/** Messages inside have their defaults in the prototype; a missing text is empty there too. */
function text(value: unknown, name: string): string {
  if (!(value instanceof Uint8Array)) return '';
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(value);
  } catch {
    throw new Error(`${name} is not UTF-8`);
  }
}

/** protobufjs has 64 bits as an object of two halves. */
function unsigned(value: unknown): bigint {
  return BigInt(String(value ?? 0));
}

/** The number in front of a request that is otherwise no good; 0 when there is none. */
export function readId(head: Uint8Array): bigint {
  try {
    const reader = protobuf.Reader.create(head);
    // Field 1, varint.
    return reader.uint32() === 8 ? unsigned(reader.uint64()) : 0n;
  } catch {
    return 0n;
  }
}

// ---------------------------------------------------------------- responses

const ERROR_CODES: readonly ApiErrorCode[] = ['internal', 'not-found', 'bad-request'];

const ENDPOINT_FIELDS = {
  'unix-stream': 'unixStream',
  'unix-datagram': 'unixDatagram',
  'udp-datagram': 'udpDatagram',
  'tcp-listener': 'tcpListener',
  'tcp-stream': 'tcpStream',
} as const satisfies Record<Endpoint['kind'], string>;

/** The whole frame. Fields with default values are left out, as proto3 wants. */
export function encodeResponse(response: ApiResponse): Uint8Array {
  return ResponseType.encodeDelimited(ResponseType.create(responseFields(response))).finish();
}

function responseFields(response: ApiResponse): Fields {
  if (response.kind === 'status') {
    const { pid, running, returnCode, stdout, stderr } = response;
    return {
      event: true,
      status: {
        ...(pid !== 0 && { pid }),
        ...(running && { running }),
        ...(returnCode && { returnCode }),
        ...(stdout?.length && { stdout }),
        ...(stderr?.length && { stderr }),
      },
    };
  }
  const { kind } = response;
  return { ...(response.id !== 0n && { id: String(response.id) }), [kind]: bodyFields(response) };
}

function bodyFields(response: Exclude<ApiResponse, { kind: 'status' }>): Fields {
  switch (response.kind) {
    case 'error': {
      const code = ERROR_CODES.indexOf(response.code);
      return { ...(code > 0 && { code }), message: Buffer.from(response.message) };
    }
    case 'hello':
      return { version: Buffer.from(response.version) };
    case 'run':
      return { pid: response.pid };
    case 'network': {
      const { endpoint } = response;
      const where = 'path' in endpoint ? endpoint.path : endpoint.address;
      return { [ENDPOINT_FIELDS[endpoint.kind]]: Buffer.from(where) };
    }
    case 'kill':
    case 'shutdown':
      return {};
  }
}
