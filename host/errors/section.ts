/** What a section of the table of errors is. Texts are Markdown for one cell: no line breaks, and no `|`. */

export interface ErrorRow {
  /** Codes that mean the same; mostly one. */
  readonly codes: readonly `YAVM_E_${string}`[];
  /** What has happened. */
  readonly meaning: string;
  /** What the reader can do or look at. Absent: nothing helps, or the message says it all. */
  readonly helps?: string;
}

export interface Section {
  readonly title: string;
  /** A paragraph between the title and the rows. */
  readonly intro?: string;
  readonly rows: readonly ErrorRow[];
}
