/** Values as text, the same under every engine. */

/** What the probe addon exports. */
export type Probe = { [name: string]: (...args: unknown[]) => unknown };
/** Calls a function of the probe addon. */
export type Ask = (name: string, ...args: unknown[]) => unknown;

/** A value as text that says everything a caller could notice. */
export function show(value: unknown, depth = 0): string {
  if (Object.is(value, -0)) return '-0';
  if (typeof value === 'bigint') return `${value}n`;
  if (typeof value === 'string') return JSON.stringify(value);
  if (typeof value === 'function') return `function ${value.name}`;
  if (typeof value === 'symbol') return `symbol ${String(value.description)}`;
  if (typeof value !== 'object' || value === null) return String(value);
  if (depth > 6) return '…';
  if (Array.isArray(value)) return `[${value.map((item) => show(item, depth + 1)).join(', ')}]`;
  if (value instanceof Error) return showError(value);
  if (value instanceof Date) return `date ${value.getTime()}`;
  if (value instanceof Promise) return 'promise';
  if (value instanceof ArrayBuffer) return `buffer ${value.byteLength}`;
  if (ArrayBuffer.isView(value)) return showView(value);
  const entries = Object.entries(value).map(([key, item]) => `${key}: ${show(item, depth + 1)}`);
  return `{${entries.join(', ')}}`;
}

function showError(error: Error): string {
  const { code } = error as { code?: unknown };
  return code === undefined
    ? `${error.name}: ${error.message}`
    : `${error.name}: ${error.message} (code ${show(code)})`;
}

/** Node's Buffers are Uint8Arrays here. */
function showView(view: ArrayBufferView): string {
  const name = view instanceof Uint8Array ? 'Uint8Array' : (view.constructor as { name: string }).name;
  const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  return `${name} ${view.byteOffset}+${view.byteLength} <${bytes.join(' ')}>`;
}

/** The value of a call, or what it throws. */
export function attempt(call: () => unknown): string {
  try {
    return show(call());
  } catch (error) {
    return `throws ${show(error)}`;
  }
}

/** Whether the stack of what a call throws names this file's function. */
export function stackOf(call: () => unknown): boolean {
  try {
    call();
    return false;
  } catch (error) {
    return String((error as Error).stack).includes('stackOf');
  }
}
