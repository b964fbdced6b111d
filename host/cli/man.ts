/** `ya-vm man`: manual pages, made from what the commands say about themselves. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Command } from 'commander';
import { YavmError } from '../lib/errors.ts';
import { makeFolders } from '../lib/make-folders.ts';
import type { Act } from './commands.ts';
import { allNodes, commandTree } from './completion-tree.ts';
import { print, writeAll } from './context.ts';
import { EXIT } from './exit.ts';
import { manPage, pageName } from './man-page.ts';
import { usageError } from './options.ts';
import { ownVersion } from './version.ts';

const HELP = `
Examples:
  ya-vm man run | man -l -
  ya-vm man --out ~/.local/share/man/man1        then: man ya-vm-run`;

export function define(command: Command, act: Act): void {
  command
    .argument('[command...]', 'whose page is printed (default: of ya-vm itself)')
    .option('--out <folder>', 'write all pages into this folder, and print their names')
    .addHelpText('after', HELP);
  act(command, async (context, { out }, [words]) => {
    const nodes = allNodes(await commandTree());
    const version = await ownVersion();
    if (out !== undefined) {
      const files = nodes.map((node) => ({ name: `${pageName(node)}.1`, text: manPage(node, version) }));
      await writeAllFiles(out as string, files);
      await print(context, ...files.map(({ name }) => join(out as string, name)));
      return EXIT.ok;
    }
    const wanted = (words as string[]).join(' ');
    const node = nodes.find(({ path }) => path.join(' ') === wanted);
    if (!node) throw usageError(`there is no command '${wanted}'`, 'ya-vm --help shows all.');
    await writeAll(context.stdout, manPage(node, version));
    return EXIT.ok;
  });
}

/** @throws {YavmError} YAVM_E_REPORT */
async function writeAllFiles(
  folder: string,
  files: readonly { name: string; text: string }[],
): Promise<void> {
  try {
    makeFolders(folder);
    for (const { name, text } of files) await writeFile(join(folder, name), text);
  } catch (cause) {
    throw new YavmError('YAVM_E_REPORT', `${folder}: the manual pages cannot be written`, { cause });
  }
}
