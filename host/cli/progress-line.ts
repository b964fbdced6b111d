/** How far something long is, on standard error: a live line on a terminal, else a line each quarter. */
import { formatSize } from '../lib/size.ts';
import { fit, type PhaseScreen } from './phases.ts';

export interface ProgressLineOptions extends PhaseScreen {
  /** False: nothing is shown. */
  shown: boolean;
}

/** Redraws of the live line, milliseconds apart. */
const TICK = 100;
const BAR = 24;
const ERASE_LINE = '\r\u001b[K';

export class ProgressLine {
  readonly #options: ProgressLineOptions;
  #drawnAt = Number.NEGATIVE_INFINITY;
  #drawn = false;
  /** What was told in lines: the step, and its quarters. */
  #told = '';

  constructor(options: ProgressLineOptions) {
    this.#options = options;
  }

  /** `what` is the step's name; the numbers are bytes. */
  update(what: string, done: number, total: number): void {
    const { shown, live } = this.#options;
    if (!shown) return;
    const share = total > 0 ? Math.min(done / total, 1) : 1;
    if (live) this.#draw(what, share, `${formatSize(done)} of ${formatSize(total)}`);
    else this.#tell(what, share, ` of ${formatSize(total)}`);
  }

  /** Takes the live line away. */
  clear(): void {
    if (this.#drawn) this.#options.write(ERASE_LINE);
    this.#drawn = false;
    this.#drawnAt = Number.NEGATIVE_INFINITY;
  }

  #draw(what: string, share: number, amount: string): void {
    const { now, write, columns, style } = this.#options;
    if (now() - this.#drawnAt < TICK && share < 1) return;
    this.#drawnAt = now();
    this.#drawn = true;
    const full = Math.round(share * BAR);
    const line = `${what} [${'#'.repeat(full)}${'-'.repeat(BAR - full)}] ${percent(share)} ${amount}`;
    write(ERASE_LINE + style.dim(fit(line.trimEnd(), columns() - 1)));
  }

  #tell(what: string, share: number, amount: string): void {
    const quarter = `${what} ${percent(Math.floor(share * 4) / 4)}`;
    if (quarter === this.#told) return;
    this.#told = quarter;
    this.#options.write(`ya-vm: ${quarter}${amount}\n`);
  }
}

function percent(share: number): string {
  return `${Math.floor(share * 100)} %`;
}
