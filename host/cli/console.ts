/** `ya-vm console`: the serial console of a VM, or a serial port of this machine with a real board behind it. */
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Command } from 'commander';
import type { SerialPort } from 'serialport';
import { hasErrno, toError, YavmError } from '../lib/errors.ts';
import { printable } from '../lib/logger.ts';
import { runBase } from '../lib/paths.ts';
import type { Act } from './commands.ts';
import { type Context, styleOf, writeAll } from './context.ts';
import { EXIT } from './exit.ts';
import { Interrupts } from './interrupts.ts';
import { forOption, parseInteger } from './options.ts';
import { ESCAPE_KEY, enterRawMode, KeyScanner } from './terminal.ts';
import { listVms, selectVm } from './vms.ts';

export function define(command: Command, act: Act): void {
  command
    .argument('[target]', "a VM's id (default: the only VM), or a device as /dev/ttyUSB0")
    .option('--baud <rate>', 'speed of a device', '115200')
    .option('--log', 'print what the VM wrote on its console so far, and exit')
    .addHelpText(
      'after',
      `
On a terminal what you type goes to the console; Ctrl-] leaves it. Into a pipe it only reads.

Examples:
  ya-vm console tobikuda
  ya-vm console --log tobikuda | less
  ya-vm console /dev/ttyUSB0 --baud 9600`,
    );
  act(command, async (context, options, [target]) => {
    const baudRate = forOption('--baud', (text) => parseInteger(text, 50, 4_000_000, 'speed'))(
      options.baud as string,
    );
    const name = target as string | undefined;
    if (options.log) return await printLog(context, name);
    const path = name?.startsWith('/') ? name : await consoleOf(context, name);
    return await attach(context, path, baudRate);
  });
}

async function consoleOf(context: Context, id: string | undefined): Promise<string> {
  const { record } = selectVm(await listVms(runBase(context.env)), id);
  if (record.console !== null) return record.console;
  throw new YavmError('YAVM_E_CONSOLE', `VM ${record.id} has no console to attach to`, {
    hint: `Its log is there: ya-vm console --log ${record.id}`,
  });
}

/** Bytes of the log that are printed at most, its end: a guest could write without end. */
const MAX_LOG = 16 * 1024 * 1024;

async function printLog(context: Context, id: string | undefined): Promise<number> {
  const { folder } = selectVm(await listVms(runBase(context.env)), id);
  const path = join(folder, 'console.log');
  let text: Buffer;
  try {
    text = await readFile(path);
  } catch (error) {
    throw new YavmError('YAVM_E_CONSOLE', `${path}: cannot read the console's log`, { cause: error });
  }
  const end = text.subarray(-MAX_LOG);
  // The guest may have written anything; on a terminal that must not take effect.
  if (context.stdout.isTTY)
    await writeAll(context.stdout, printable(end.toString('utf8').replaceAll('\r\n', '\n')));
  else await writeAll(context.stdout, end);
  return EXIT.ok;
}

async function attach(context: Context, path: string, baudRate: number): Promise<number> {
  const interactive = context.stdin.isTTY === true && context.stdout.isTTY === true;
  const port = await openPort(path, baudRate);
  const interrupts = new Interrupts();
  const note = (text: string) =>
    writeAll(context.stderr, `${styleOf(context, context.stderr).dim(text)}\r\n`);
  let restore = () => {};
  try {
    if (interactive) {
      await note(`ya-vm: ${path}; Ctrl-] leaves`);
      restore = enterRawMode(context.stdin);
    }
    const end = await pump(context, port, interactive, interrupts.signal);
    restore();
    if (interactive) await note(`\r\nya-vm: ${END_TEXT[end]}`);
    return end === 'interrupted' ? interruptCode(interrupts.signal) : EXIT.ok;
  } finally {
    restore();
    interrupts.close();
    context.stdin.destroy();
    await closePort(port);
  }
}

type End = 'left' | 'closed' | 'interrupted' | 'output-closed';

const END_TEXT: Readonly<Record<End, string>> = {
  left: 'left the console; the VM goes on',
  closed: 'the console was closed: the VM, or the device, is gone',
  interrupted: 'interrupted',
  'output-closed': 'nobody reads the output any more',
};

function interruptCode(signal: AbortSignal): number {
  return (signal.reason as { exitCode?: number }).exitCode ?? EXIT.failure;
}

/** Copies both ways until one side ends. */
function pump(context: Context, port: SerialPort, interactive: boolean, signal: AbortSignal): Promise<End> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve('interrupted');
    signal.addEventListener('abort', () => resolve('interrupted'), { once: true });
    port.on('data', (chunk: Uint8Array) => {
      if (context.stdout.destroyed) return resolve('output-closed');
      if (context.stdout.write(chunk)) return;
      port.pause();
      context.stdout.once('drain', () => port.resume());
    });
    context.stdout.once('error', () => resolve('output-closed'));
    port.on('close', () => resolve('closed'));
    port.on('error', () => resolve('closed'));
    if (!interactive) return;
    const scanner = new KeyScanner(ESCAPE_KEY);
    context.stdin.on('data', (chunk: Uint8Array) => {
      const { pass, found } = scanner.scan(chunk);
      if (pass.byteLength > 0) port.write(Buffer.from(pass));
      if (found) resolve('left');
    });
    context.stdin.once('end', () => resolve('left'));
  });
}

/** @throws {YavmError} YAVM_E_CONSOLE with what to do about permissions or a port in use. */
async function openPort(path: string, baudRate: number): Promise<SerialPort> {
  const { SerialPort } = await import('./serial-port.ts');
  const port = new SerialPort({ path, baudRate, autoOpen: false });
  try {
    await new Promise<void>((resolve, reject) => port.open((error) => (error ? reject(error) : resolve())));
    return port;
  } catch (error) {
    throw new YavmError('YAVM_E_CONSOLE', `${path}: cannot open the console`, {
      cause: error,
      hint: await openHint(path, toError(error)),
    });
  }
}

async function openHint(path: string, error: Error): Promise<string> {
  const found = await stat(path).catch((cause) => cause);
  if (hasErrno(found, 'ENOENT'))
    return 'The device is not there: unplugged, or the VM has ended. See: ya-vm ps; ls /dev/tty*';
  if (/lock|busy/i.test(error.message)) return `Another program uses it: fuser -v ${path}`;
  if (/permission/i.test(error.message)) {
    return 'Devices belong to a group: sudo usermod -aG dialout "$USER", then log in again.';
  }
  return 'Is it a serial device? See: ls -l /dev/serial/by-id';
}

async function closePort(port: SerialPort): Promise<void> {
  if (!port.isOpen) return;
  await new Promise<void>((resolve) => port.close(() => resolve()));
}
