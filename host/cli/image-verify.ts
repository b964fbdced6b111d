/** `ya-vm image verify`: whether an image is whole, and the one that was meant. */
import type { Command } from 'commander';
import { readWholeImage } from '../image/unsquash.ts';
import { verifyImage } from '../image/verify.ts';
import { YavmError } from '../lib/errors.ts';
import { printable } from '../lib/logger.ts';
import { formatSize } from '../lib/size.ts';
import type { HashAlgorithm } from '../transfer/location.ts';
import type { Act } from './commands.ts';
import { print } from './context.ts';
import { EXIT } from './exit.ts';
import { hashImage } from './image-hash.ts';
import { Interrupts } from './interrupts.ts';
import { forOption, usageError } from './options.ts';

interface Expected {
  algorithm: HashAlgorithm;
  hex: string;
}

/** By the number of hex digits. */
const ALGORITHMS: Readonly<Record<number, HashAlgorithm>> = {
  56: 'sha3-224',
  64: 'sha3-256',
  96: 'sha3-384',
  128: 'sha3-512',
};

export function defineVerify(command: Command, act: Act): void {
  const verify = command
    .command('verify')
    .argument('<file>', '.gvmi or squashfs')
    .description('check that an image is whole; exit code 125 when it is not')
    .option(
      '--hash <hash:sha3:HEX[:URL]>',
      'its hash, as a demand names it',
      forOption('--hash', parseExpected),
    )
    .option('--deep', 'decompress all of it with unsquashfs')
    .addHelpText(
      'after',
      `
Without --hash damage inside of compressed data is found only by --deep, and there only where it cannot be decompressed:
squashfs has no checksums. The hash finds all.

Examples:
  ya-vm image verify --hash hash:sha3:9f…c:https://host/task.gvmi task.gvmi
  ya-vm image verify --deep task.gvmi`,
    );
  act(verify, async (context, options, [path]) => {
    const file = path as string;
    const expected = options.hash as Expected | undefined;
    const interrupts = new Interrupts();
    try {
      const info = await verifyImage(file);
      if (expected) await checkHash(file, expected, interrupts.signal);
      if (options.deep) await readWholeImage(file, interrupts.signal, context.env);
      const checked = ['format', ...(expected ? ['hash'] : []), ...(options.deep ? ['content'] : [])];
      await print(
        context,
        printable(`${file}: ${info.kind}, ${formatSize(info.size)}: ${checked.join(', ')} ok`),
      );
    } finally {
      interrupts.close();
    }
    return EXIT.ok;
  });
}

function parseExpected(text: string): Expected {
  const hex = /^(?:hash:)?(?:sha3:)?([0-9a-f]+)(?::.*)?$/i.exec(text)?.[1]?.toLowerCase() ?? '';
  const algorithm = ALGORITHMS[hex.length];
  if (algorithm) return { algorithm, hex };
  throw usageError(`'${text}' is no SHA3`, 'As in hash:sha3:HEX, with 56, 64, 96 or 128 hex digits.');
}

async function checkHash(file: string, { algorithm, hex }: Expected, signal: AbortSignal): Promise<void> {
  const found = await hashImage(file, algorithm, signal);
  if (found === hex) return;
  throw new YavmError('YAVM_E_IMAGE_HASH', `${file}: its ${algorithm} is ${found}, not ${hex}`, {
    hint: 'Damaged, or another image: fetch it again.',
  });
}
