/**
 * Device nodes of NVIDIA's driver. It makes none itself, and does not use devtmpfs. Names, minors and the files in /proc
 * are those of nvidia-modprobe's utilities and of nvidia-container-toolkit.
 */

export interface DeviceNode {
  /** Beneath /dev. */
  path: string;
  major: number;
  minor: number;
  /** Permission bits. */
  mode: number;
  uid: number;
  gid: number;
}

/** Minors of the nodes that belong to no one card. */
const CONTROL = 255;
const MODESET = 254;
const UVM = 0;
const UVM_TOOLS = 1;

/** Name of the main major: `nvidia` since 550.40, `nvidia-frontend` before. */
const MAIN_NAMES = ['nvidia', 'nvidia-frontend', 'nvidiactl'];

/** Modes of the driver where it says nothing else: 0666. */
const DEFAULT_MODE = 0o666;

/** `Name: value` lines, as all of the driver's files have. */
export function fieldsOf(text: string | null): Map<string, string> {
  const fields = new Map<string, string>();
  for (const line of (text ?? '').split('\n')) {
    const colon = line.indexOf(':');
    if (colon > 0) fields.set(line.slice(0, colon).trim(), line.slice(colon + 1).trim());
  }
  return fields;
}

/** Majors of character devices by name, from /proc/devices. The first of a name counts. */
export function characterMajors(text: string): Map<string, number> {
  const majors = new Map<string, number>();
  for (const line of text.split('\n')) {
    if (line.startsWith('Block devices')) break;
    const match = /^\s*(\d{1,4}) (\S+)\s*$/.exec(line);
    if (match && !majors.has(match[2] as string)) majors.set(match[2] as string, Number(match[1]));
  }
  return majors;
}

/** What the driver says of its nodes, /proc/driver/nvidia/params. */
export interface NodeRules {
  mode: number;
  uid: number;
  gid: number;
  /** Whether anyone but the administrator should make them. */
  modify: boolean;
}

export function nodeRules(params: string | null): NodeRules {
  const fields = fieldsOf(params);
  return {
    mode: number(fields.get('DeviceFileMode')) ?? DEFAULT_MODE,
    uid: number(fields.get('DeviceFileUID')) ?? 0,
    gid: number(fields.get('DeviceFileGID')) ?? 0,
    modify: number(fields.get('ModifyDeviceFiles')) !== 0,
  };
}

/** A capability of the driver (MIG, IMEX): a file beneath /proc/driver/nvidia/capabilities. */
export interface Capability {
  minor: number;
  mode: number;
  modify: boolean;
}

/** null: the file is none. */
export function parseCapability(text: string | null): Capability | null {
  const fields = fieldsOf(text);
  const minor = number(fields.get('DeviceFileMinor'));
  if (minor === undefined) return null;
  return {
    minor,
    mode: number(fields.get('DeviceFileMode')) ?? 0o400,
    modify: number(fields.get('DeviceFileModify')) !== 0,
  };
}

export interface NodeInput {
  majors: Map<string, number>;
  rules: NodeRules;
  /** Minor of each card. */
  minors: number[];
  capabilities: Capability[];
  graphics: boolean;
}

/** All nodes, those of the cards first. Null: the driver has registered no character device. Pure. */
export function nvidiaNodes(input: NodeInput): DeviceNode[] | null {
  const { majors, rules, minors, capabilities, graphics } = input;
  const main = MAIN_NAMES.map((name) => majors.get(name)).find((major) => major !== undefined);
  if (main === undefined) return null;
  const { mode, uid, gid } = rules;
  const nodes: DeviceNode[] = [];
  const add = (path: string, major: number, minor: number, bits = mode) =>
    nodes.push({ path, major, minor, mode: bits & 0o777, uid, gid });
  for (const minor of minors) add(`nvidia${minor}`, main, minor);
  add('nvidiactl', main, CONTROL);
  if (graphics) add('nvidia-modeset', main, MODESET);
  const uvm = majors.get('nvidia-uvm');
  if (uvm !== undefined) {
    add('nvidia-uvm', uvm, UVM);
    add('nvidia-uvm-tools', uvm, UVM_TOOLS);
  }
  const caps = majors.get('nvidia-caps');
  for (const capability of caps === undefined ? [] : capabilities) {
    const { minor, modify } = capability;
    if (modify) add(`nvidia-caps/nvidia-cap${minor}`, caps as number, minor, capability.mode);
  }
  return nodes;
}

/** A decimal number of at most 20 bits, which minors are; else undefined. */
function number(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,7}$/.test(text) ? Number(text) : undefined;
}
