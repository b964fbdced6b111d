/** The layers of the test suite: a folder of test/ each, in the order in which they run. test/README.md describes them. */

export interface Layer {
  /** Folder under test/. */
  name: string;
  /** Files that run at a time. */
  jobs: number;
  /**
   * Longest that one file may take, seconds: in an ordinary run and in a soak. Four times what the longest one takes
   * on a quiet machine, as others are not quiet.
   */
  timeout: { ordinary: number; soak: number };
}

/** Machines with two cores are the measure. A VM under TCG takes one of them, and its test waits for it: two files at a time are as fast as one each. */
export const LAYERS: Layer[] = [
  { name: 'unit', jobs: 2, timeout: { ordinary: 300, soak: 900 } },
  { name: 'native', jobs: 2, timeout: { ordinary: 400, soak: 1800 } },
  { name: 'fuzz', jobs: 2, timeout: { ordinary: 400, soak: 3600 } },
  { name: 'interop', jobs: 1, timeout: { ordinary: 300, soak: 300 } },
  { name: 'vm', jobs: 2, timeout: { ordinary: 900, soak: 4 * 3600 } },
];
