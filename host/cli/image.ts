/** `ya-vm image`: looks into images (here), builds, checks and names them. */
import type { Command } from 'commander';
import { type ImageInfo, verifyImage } from '../image/verify.ts';
import { printable } from '../lib/logger.ts';
import { formatSize } from '../lib/size.ts';
import type { Act } from './commands.ts';
import { print, printJson } from './context.ts';
import { EXIT } from './exit.ts';
import { defineBuild } from './image-build.ts';
import { defineHash } from './image-hash.ts';
import { defineVerify } from './image-verify.ts';
import { alignColumns } from './style.ts';

export function define(command: Command, act: Act): void {
  const inspect = command
    .command('inspect')
    .argument('<file>', '.gvmi or squashfs')
    .description(
      'check an image and print its format and configuration; exit code 125 when it is no whole image',
    )
    .option('--json', 'print an object')
    .addHelpText(
      'after',
      '\nExamples:\n  ya-vm image inspect task.gvmi\n  ya-vm image inspect --json task.gvmi | jq .config.cmd',
    );
  act(inspect, async (context, options, [file]) => {
    const info = await verifyImage(file as string);
    if (options.json) await printJson(context, { file, ...info });
    else await print(context, ...imageLines(file as string, info));
    return EXIT.ok;
  });
  defineVerify(command, act);
  defineBuild(command, act);
  defineHash(command, act);
}

/** For people. What the image says is made harmless for a terminal. */
export function imageLines(file: string, info: ImageInfo): string[] {
  const rows: string[][] = [
    ['file', `${file} (${formatSize(info.size)})`],
    ['format', info.kind === 'gvmi' ? 'gvmi: squashfs with metadata' : 'squashfs without metadata'],
    [
      'squashfs',
      `${info.compressor}, ${formatSize(info.bytesUsed)}, blocks of ${formatSize(info.blockSize)}, ${info.inodes} inodes`,
    ],
    ['created', new Date(info.created * 1000).toISOString()],
  ];
  const { config } = info;
  if (config) {
    rows.push(['entrypoint', words(config.entrypoint)], ['cmd', words(config.cmd)]);
    rows.push(['cwd', config.workingDir ?? '/'], ['user', config.user ?? 'root']);
    rows.push(...config.env.map((entry, index) => [index === 0 ? 'env' : '', entry]));
    rows.push(...config.volumes.map((path, index) => [index === 0 ? 'volumes' : '', path]));
  }
  return alignColumns(rows.map((row) => row.map(printable)));
}

function words(list: readonly string[]): string {
  return list.length === 0 ? '(none)' : JSON.stringify(list);
}
