/** What is known of the graphics cards of a self-test's VM: from the guest, and from `nvidia-smi` in it. Pure. */
import type { GuestGpu } from '../../guest/protocol/messages.ts';

export interface GpuCard {
  model: string;
  /** Bytes. */
  memory?: number;
  /** Of CUDA; absent: the card has none. */
  cuda?: { capability?: string; cores?: number };
  /** At most, MHz. */
  clocks?: Partial<Record<Clock, number>>;
  /** Bytes a second. */
  bandwidth?: number;
}

export interface GpuFacts {
  /** In the guest's order. */
  cards: GpuCard[];
  /** Of the driver and of its CUDA. */
  driverVersion?: string;
  cudaVersion?: string;
}

export const CLOCKS = ['graphics', 'memory', 'sm', 'video'] as const;
export type Clock = (typeof CLOCKS)[number];

const MIB = 1024 ** 2;
const NVIDIA = 0x10de;

/** Of a verdict's file; null when it is not ours. */
export function decodeGpuFacts(value: unknown): GpuFacts | null {
  const { cards, driverVersion, cudaVersion } = (value ?? {}) as Record<string, unknown>;
  const text = (each: unknown) => each === undefined || typeof each === 'string';
  if (!Array.isArray(cards) || !cards.every(isCard) || !text(driverVersion) || !text(cudaVersion))
    return null;
  return value as GpuFacts;
}

function isCard(value: unknown): value is GpuCard {
  const { model, memory, cuda, clocks, bandwidth } = (value ?? {}) as Record<string, unknown>;
  const amount = (each: unknown) => each === undefined || (typeof each === 'number' && Number.isFinite(each));
  const map = (each: unknown) => each === undefined || (typeof each === 'object' && each !== null);
  if (typeof model !== 'string' || !amount(memory) || !amount(bandwidth)) return false;
  if (!map(cuda) || !map(clocks)) return false;
  const { capability, cores } = (cuda ?? {}) as Record<string, unknown>;
  const known = capability === undefined || typeof capability === 'string';
  return known && amount(cores) && Object.values(clocks ?? {}).every(amount);
}

/** Cards that no tool describes are called by their ids. */
export function namelessCards(gpus: readonly GuestGpu[]): GpuCard[] {
  return gpus
    .filter(({ vendor }) => vendor !== NVIDIA)
    .map(({ vendor, device }) => ({ model: `${hex(vendor)}:${hex(device)}` }));
}

function hex(id: number): string {
  return id.toString(16).padStart(4, '0');
}

/**
 * From the text of `nvidia-smi -q` and of `nvidia-smi --query-gpu=compute_cap --format=csv,noheader`, which has a line a card.
 * What a driver does not say is left out; `N/A` says nothing.
 */
export function parseNvidiaSmi(query: string, capabilities: string): GpuFacts {
  const [head = '', ...parts] = query.split(/^GPU [0-9A-F]{8}:.*$/m);
  const capability = capabilities.split('\n').map((line) => /^\d+\.\d+$/.exec(line.trim())?.[0]);
  const facts: GpuFacts = {
    cards: parts.flatMap((part, index) => cardOf(part, capability[index]) ?? []),
  };
  const driverVersion = field(head, 'Driver Version');
  const cudaVersion = field(head, 'CUDA Version');
  if (driverVersion !== undefined) facts.driverVersion = driverVersion;
  if (cudaVersion !== undefined) facts.cudaVersion = cudaVersion;
  return facts;
}

function cardOf(text: string, capability: string | undefined): GpuCard | null {
  const model = field(text, 'Product Name');
  if (model === undefined) return null;
  const card: GpuCard = { model, cuda: capability === undefined ? {} : { capability } };
  const memory = number(field(section(text, 'FB Memory Usage'), 'Total'), 'MiB');
  if (memory !== null) card.memory = memory * MIB;
  const most = section(text, 'Max Clocks');
  const names = { graphics: 'Graphics', memory: 'Memory', sm: 'SM', video: 'Video' } as const;
  const clocks = CLOCKS.flatMap((clock): [Clock, number][] => {
    const value = number(field(most, names[clock]), 'MHz');
    return value === null ? [] : [[clock, value]];
  });
  if (clocks.length > 0) card.clocks = Object.fromEntries(clocks);
  return card;
}

/** The lines below a heading that are further in than it is. */
function section(text: string, heading: string): string {
  const lines = text.split('\n');
  const start = lines.findIndex((line) => line.trim() === heading);
  if (start < 0) return '';
  const depth = indent(lines[start] as string);
  const rest = lines.slice(start + 1);
  const end = rest.findIndex((line) => line.trim() !== '' && indent(line) <= depth);
  return rest.slice(0, end < 0 ? rest.length : end).join('\n');
}

function indent(line: string): number {
  return line.length - line.trimStart().length;
}

/** `Name    : value`. */
function field(text: string, name: string): string | undefined {
  const [, value] = new RegExp(`^\\s*${name}\\s*: (.*)$`, 'm').exec(text) ?? [];
  const said = value?.trim();
  return said === '' || said === 'N/A' || said === '[N/A]' ? undefined : said;
}

function number(text: string | undefined, unit: string): number | null {
  const [, digits] = new RegExp(`^(\\d{1,9}) ${unit}$`).exec(text ?? '') ?? [];
  return digits === undefined ? null : Number(digits);
}
