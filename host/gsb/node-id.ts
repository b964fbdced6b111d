/** Ids of nodes, as they stand in calls and addresses (exe-unit.md 4.11). */

const NODE_ID = /^0x[0-9a-f]{40}$/;

/** `0x` and 40 hexadecimal digits, in lower case. */
export function isNodeId(text: string): boolean {
  return NODE_ID.test(text);
}
