/** The phases of a start on a terminal: one live line while the VM comes up, left behind as a compact summary. */
import { formatDuration } from '../lib/duration.ts';
import type { Phase, PhaseName } from '../runtime/types.ts';
import type { Style } from './style.ts';

/**
 * What the live line says after each. Whether a VM goes on from a template or boots shows only when that is over. The command's
 * own time is told by {@link Phases.ended}.
 */
const NEXT: Readonly<Record<PhaseName, string>> = {
  image: 'accelerator',
  accelerator: 'disk',
  disk: 'start',
  template: 'restore',
  restore: 'file systems',
  kernel: 'agent',
  agent: 'file systems',
  'file systems': 'command',
  command: 'command',
};

const FRAMES = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
/** Redraws of the live line, milliseconds apart. */
const TICK = 100;

export interface PhaseScreen {
  write(text: string): void;
  /** False: nothing is shown, phases are only kept (for `--json`). */
  live: boolean;
  /** Width of the terminal now. */
  columns(): number;
  style: Style;
  /** Milliseconds, monotonic. */
  now(): number;
}

/** Keeps the phases of one start and draws them. */
export class Phases {
  readonly done: Phase[] = [];
  readonly #screen: PhaseScreen;
  #began: number;
  #timer: NodeJS.Timeout | undefined;
  #frame = 0;
  #accelerator = '';

  constructor(screen: PhaseScreen) {
    this.#screen = screen;
    this.#began = screen.now();
  }

  /** Starts the live line. */
  start(): void {
    this.#began = this.#screen.now();
    if (!this.#screen.live) return;
    this.#timer = setInterval(() => this.#draw(), TICK);
    this.#timer.unref();
    this.#draw();
  }

  /** A phase is over. */
  add(phase: Phase): void {
    this.done.push(phase);
    this.#began = this.#screen.now();
    if (this.#timer) this.#draw();
  }

  /** Named in the summary instead of the word "accelerator": `tcg`. */
  set accelerator(name: string) {
    this.#accelerator = name;
  }

  /** The command starts: the live line gives way to the summary, and the terminal is the command's from here. */
  ready(): void {
    if (!this.#stop()) return;
    const { style } = this.#screen;
    this.#screen.write(`${style.dim(`ya-vm: ${summary(this.done, this.#accelerator)}`)}\n`);
  }

  /** The command ended. `text` says how. */
  ended(text: string): void {
    if (!this.#screen.live) return;
    const { style } = this.#screen;
    this.#screen.write(`${style.dim(`ya-vm: ${text}`)}\n`);
  }

  /** The start failed or was given up: erases the live line, so that the error stands alone. */
  clear(): void {
    this.#stop();
  }

  /** @returns whether a live line was there. */
  #stop(): boolean {
    if (!this.#timer) return false;
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#screen.write(ERASE_LINE);
    return true;
  }

  #draw(): void {
    const { style } = this.#screen;
    const mark = FRAMES[this.#frame++ % FRAMES.length] as string;
    const current = nextPhase(this.done);
    const elapsed = this.#screen.now() - this.#began;
    const before = this.done.length > 0 ? `${list(this.done, this.#accelerator)} · ` : '';
    const line = fit(`${mark} ${before}${current} ${formatDuration(elapsed)}`, this.#screen.columns() - 1);
    this.#screen.write(ERASE_LINE + style.dim(line));
  }
}

/** To column one, and erase to the end of the line. */
const ERASE_LINE = '\r\u001b[K';

/** What runs after the phases that are done. */
export function nextPhase(done: readonly Phase[]): string {
  const last = done.at(-1);
  return last ? NEXT[last.name] : 'accelerator';
}

/** `tcg 2 ms · disk 35 ms · kernel 1.61 s · … · 2.05 s in all`. */
export function summary(phases: readonly Phase[], accelerator = ''): string {
  const total = phases.reduce((sum, phase) => sum + phase.milliseconds, 0);
  const parts = list(phases, accelerator);
  return phases.length > 1 ? `${parts} · ${formatDuration(total)} in all` : parts;
}

function list(phases: readonly Phase[], accelerator: string): string {
  const parts = phases.map(({ name, milliseconds }) => {
    const label = name === 'accelerator' && accelerator !== '' ? accelerator : name;
    return `${label} ${formatDuration(milliseconds)}`;
  });
  return parts.join(' · ');
}

/** Cuts a line to the terminal's width: a wrapped live line could not be erased. */
export function fit(text: string, columns: number): string {
  return columns > 1 && text.length > columns ? `${text.slice(0, columns - 1)}…` : text;
}
