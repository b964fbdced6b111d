/** `ya-vm image hash`: the line by which a demand names an image. */
import { type FileHandle, open } from 'node:fs/promises';
import type { Command } from 'commander';
import { ImageUnreadableError } from '../image/errors.ts';
import { hashFile } from '../transfer/hash.ts';
import type { HashAlgorithm } from '../transfer/location.ts';
import type { Act } from './commands.ts';
import { print } from './context.ts';
import { EXIT } from './exit.ts';
import { Interrupts } from './interrupts.ts';
import { forOption, parseChoice, usageError } from './options.ts';

const BITS = ['224', '256', '384', '512'] as const;

export function defineHash(command: Command, act: Act): void {
  const hash = command
    .command('hash')
    .argument('<file>', 'an image')
    .argument('[url]', 'where it will be fetched from')
    .description('print how a demand names an image: hash:sha3:HEX:URL; without a URL, the part before it')
    .option(
      '--bits <n>',
      `length of the SHA3: ${BITS.join(', ')} (default: 224, which all of Golem's tools know)`,
      forOption('--bits', (text) => parseChoice(text, BITS, 'length of SHA3')),
    )
    .addHelpText(
      'after',
      '\nExamples:\n  ya-vm image hash task.gvmi https://host/task.gvmi\n  ya-vm image hash --bits 256 task.gvmi',
    );
  act(hash, async (context, options, [file, url]) => {
    if (url !== undefined && !URL.canParse(url as string))
      throw usageError(`'${url}' is no URL`, 'As in https://host/task.gvmi.');
    const algorithm: HashAlgorithm = `sha3-${(options.bits as (typeof BITS)[number] | undefined) ?? '224'}`;
    const interrupts = new Interrupts();
    try {
      const hex = await hashImage(file as string, algorithm, interrupts.signal);
      await print(context, url === undefined ? `hash:sha3:${hex}` : `hash:sha3:${hex}:${url}`);
    } finally {
      interrupts.close();
    }
    return EXIT.ok;
  });
}

/** SHA3 of a file in hex. @throws {YavmError} YAVM_E_IMAGE_UNREADABLE; the signal's reason */
export async function hashImage(
  path: string,
  algorithm: HashAlgorithm,
  signal: AbortSignal,
): Promise<string> {
  let handle: FileHandle;
  try {
    handle = await open(path);
  } catch (cause) {
    throw new ImageUnreadableError(`${path}: the image cannot be opened`, { cause });
  }
  try {
    const at = await handle.stat();
    if (!at.isFile()) throw new ImageUnreadableError(`${path}: not a regular file`);
    return await hashFile(handle.fd, at.size, algorithm, signal);
  } finally {
    await handle.close();
  }
}
