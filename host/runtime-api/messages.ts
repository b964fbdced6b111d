/** What the stock exe-unit and its runtime say to each other; facts: the spec's runtime-vm.md 1.6, exe-unit.md 9.3. */

/** One network of a `network` request, as text: addresses and masks in dotted form, `gateway` may be empty. */
export interface ApiNetwork {
  address: string;
  gateway: string;
  mask: string;
  interfaceAddress: string;
}

export type NetworkInterface = 'vpn' | 'inet';

/** A request without its number. */
export type ApiRequestBody =
  | { kind: 'hello'; version: string }
  /** `args[0]` is what the program sees as its name. `workDir` is empty when the image decides. */
  | { kind: 'run'; bin: string; args: string[]; workDir: string }
  | { kind: 'kill'; pid: number; signal: number }
  | { kind: 'shutdown' }
  | {
      kind: 'network';
      interface: NetworkInterface;
      networks: ApiNetwork[];
      /** Address by host name. */
      hosts: Record<string, string>;
    };

export type ApiRequest = ApiRequestBody & { id: bigint };
export type ApiRequestOf<Kind extends ApiRequestBody['kind']> = Extract<ApiRequest, { kind: Kind }>;

export type ApiErrorCode = 'internal' | 'not-found' | 'bad-request';

/** Where frames of a network go. */
export type Endpoint =
  | { kind: 'unix-stream' | 'unix-datagram'; path: string }
  | { kind: 'udp-datagram' | 'tcp-listener' | 'tcp-stream'; address: string };

/** What a process did: output, its end, or only that it is there. */
export interface ProcessStatus {
  pid: number;
  running: boolean;
  returnCode?: number;
  stdout?: Uint8Array;
  stderr?: Uint8Array;
}

export type ApiResponseBody =
  | { kind: 'error'; code: ApiErrorCode; message: string }
  | { kind: 'hello'; version: string }
  | { kind: 'run'; pid: number }
  | { kind: 'kill' }
  | { kind: 'shutdown' }
  | { kind: 'network'; endpoint: Endpoint };

/** The answer to a request, or an event that belongs to none. */
export type ApiResponse = (ApiResponseBody & { id: bigint }) | ({ kind: 'status' } & ProcessStatus);
