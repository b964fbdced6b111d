/** NVIDIA cards: the driver's modules in their order, its version, its device nodes, what keeps cards awake. */
import { fromNative, GuestError } from '../errors.ts';
import { type Card, nameOf } from './cards.ts';
import { entriesIn, type GpuContext, namesIn, readIfThere } from './context.ts';
import type { Layer } from './layer.ts';
import { LIBRARY_FOLDER } from './libraries.ts';
import { makeNodes } from './make-nodes.ts';
import {
  type Capability,
  characterMajors,
  type DeviceNode,
  fieldsOf,
  nodeRules,
  nvidiaNodes,
  parseCapability,
} from './nvidia-nodes.ts';

/** With one card there is nothing that NVLink could join, and its set-up costs time and can fail. */
const NO_NVLINK = 'NVreg_NvLinkDisable=1';
/** Bounds on the tree of capabilities: MIG has gpuN/mig/giN/ciN/access. The reply has room for 256 nodes a card. */
const MAX_DEPTH = 6;
const MAX_CAPABILITIES = 192;
/** Of readdir(3). */
const DT_DIR = 4;

export interface NvidiaOptions {
  graphics: boolean;
  /** Parameters of module `nvidia` that the host has set: they hold. */
  parameters: string;
}

/** Loads the modules. @throws {GuestError} module-failed; gpu-failed: the driver finds no card that it knows */
export function loadNvidia({ modules }: GpuContext, cards: Card[], options: NvidiaOptions): void {
  if (cards.length === 1 && !options.parameters.includes('NVreg_NvLinkDisable='))
    modules.configure({ options: { nvidia: NO_NVLINK } });
  try {
    modules.load('nvidia');
  } catch (error) {
    if (!(error instanceof GuestError) || error.errno !== 'ENODEV') throw error;
    throw new GuestError(
      'gpu-failed',
      `NVIDIA's driver knows none of ${cards.map(nameOf).join(', ')}: open modules are for Turing and newer, older cards need the proprietary ones, of a release that still has them (${error.message})`,
      { errno: error.errno, syscall: error.syscall, path: error.path },
    );
  }
  modules.load('nvidia_uvm');
  if (!options.graphics) return;
  modules.load('nvidia_modeset');
  // Without it the module makes no /dev/dri nodes (default since 570 only).
  modules.configure({ options: { nvidia_drm: 'modeset=1' } });
  modules.load('nvidia_drm');
}

/**
 * The version of the loaded driver, which libraries must have too: one that differs is refused by the module, in words
 * that only its own log has. @throws {GuestError} gpu-failed: no version, or another one in the layer
 */
export function checkVersion(context: GpuContext, layer: Layer | null): string {
  const { native, places } = context;
  const text = readIfThere(native, `${places.proc}/driver/nvidia/version`);
  const version = moduleVersion(text);
  if (version === null)
    throw new GuestError('gpu-failed', "NVIDIA's driver is loaded and does not say its version", {
      path: `${places.proc}/driver/nvidia/version`,
    });
  if (!layer) return version;
  const libraries = libraryVersions(namesIn(native, `${layer.path}/usr/${LIBRARY_FOLDER}`));
  const other = [layer.driverVersion, ...libraries].find((each) => each !== version);
  if (other !== undefined) {
    throw new GuestError(
      'gpu-failed',
      `NVIDIA's kernel modules are of version ${version}, the driver layer says or has libraries of ${other}: both must be the same`,
    );
  }
  return version;
}

/** From `NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.163.01  Release Build …`; null: not there. */
export function moduleVersion(text: string | null): string | null {
  const line = (text ?? '').split('\n').find((each) => each.startsWith('NVRM version:')) ?? '';
  return /\s(\d{3}\.\d{2,3}(?:\.\d{2,3})?)\s/.exec(`${line} `)?.[1] ?? null;
}

/** Versions in the names of the two libraries that every program meets. */
export function libraryVersions(names: string[]): string[] {
  const found = names.flatMap(
    (name) => /^lib(?:cuda|nvidia-ml)\.so\.(\d{3}\.\d{2,3}(?:\.\d{2,3})?)$/.exec(name)?.[1] ?? [],
  );
  return [...new Set(found)];
}

/** Makes the nodes; which each card's task needs, by slot. @throws {GuestError} gpu-failed */
export function makeNvidiaNodes(
  context: GpuContext,
  cards: Card[],
  graphics: boolean,
): Map<string, string[]> {
  const { native, places, warn } = context;
  const minors = cards.map((card, index) => cardMinor(context, card) ?? index);
  const rules = nodeRules(readIfThere(native, `${places.proc}/driver/nvidia/params`));
  const capabilities = readCapabilities(context, `${places.proc}/driver/nvidia/capabilities`);
  const majors = characterMajors(readIfThere(native, `${places.proc}/devices`) ?? '');
  const nodes = nvidiaNodes({ majors, rules, minors, capabilities, graphics });
  if (!nodes)
    throw new GuestError('gpu-failed', "NVIDIA's driver has registered no device: /proc/devices lacks it");
  if (rules.modify) makeNodes(native, places.dev, nodes);
  else
    warn("no device nodes for NVIDIA's driver: its parameter NVreg_ModifyDeviceFiles=0 forbids to make them");
  const made = rules.modify ? nodes : [];
  const shared = made.filter(({ path }) => !/^nvidia\d+$/.test(path));
  return new Map(
    cards.map((card, index) => {
      const own = made.filter(({ path }) => path === `nvidia${minors[index]}`);
      return [card.slot, [...own, ...shared].map(toPath)];
    }),
  );
}

function toPath({ path }: DeviceNode): string {
  return `/dev/${path}`;
}

/** `Device Minor: 0` of the card's file; null: the driver has not taken the card. */
function cardMinor({ native, places }: GpuContext, { slot }: Card): number | null {
  const text = readIfThere(native, `${places.proc}/driver/nvidia/gpus/${slot}/information`);
  const minor = fieldsOf(text).get('Device Minor');
  return minor !== undefined && /^\d{1,3}$/.test(minor) ? Number(minor) : null;
}

function readCapabilities({ native }: GpuContext, top: string): Capability[] {
  const found: Capability[] = [];
  const walk = (folder: string, depth: number) => {
    for (const { name, type } of entriesIn(native, folder)) {
      if (found.length >= MAX_CAPABILITIES) return;
      const path = `${folder}/${name}`;
      if (type !== DT_DIR) {
        const capability = parseCapability(readIfThere(native, path));
        if (capability) found.push(capability);
      } else if (depth < MAX_DEPTH) {
        walk(path, depth + 1);
      }
    }
  };
  try {
    walk(top, 0);
  } catch (error) {
    throw fromNative('gpu-failed', "cannot read the capabilities of NVIDIA's driver", error);
  }
  return found;
}
