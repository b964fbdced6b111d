/** `ya-vm image`: looks into images (here), builds, checks and names them. */
import { tmpdir } from 'node:os';
import type { Command } from 'commander';
import { type ImageConfig, parseImageConfig } from '../image/config.ts';
import type { ContainerImage } from '../image/source/container-image.ts';
import { openSource } from '../image/source/source.ts';
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
    .argument('<image>', '.gvmi or squashfs, or what an image can be built from')
    .description(
      'check an image and print its format and configuration; exit code 125 when it is no whole image',
    )
    .option('--json', 'print an object')
    .addHelpText(
      'after',
      '\nExamples:\n  ya-vm image inspect task.gvmi\n  ya-vm image inspect --json task.gvmi | jq .config.cmd',
    );
  act(inspect, async (context, options, [file]) => {
    const source = await openSource(file as string, { signal: new AbortController().signal, temp: tmpdir() });
    try {
      if (source.kind === 'container') {
        const found = containerInfo(source.image);
        if (options.json) await printJson(context, { file, ...found });
        else await print(context, ...containerLines(file as string, found));
        return EXIT.ok;
      }
    } finally {
      source.close();
    }
    const info = await verifyImage(source.path);
    if (options.json) await printJson(context, { file, ...info });
    else await print(context, ...imageLines(file as string, info));
    return EXIT.ok;
  });
  defineVerify(command, act);
  defineBuild(command, act);
  defineHash(command, act);
}

interface ContainerInfo {
  kind: 'container';
  /** Of the configuration, which names the layers. */
  digest: string;
  /** Seconds since the epoch. */
  created: number;
  /** Lowest first; bytes as stored. */
  layers: { size: number; digest: string | null }[];
  config: ImageConfig;
}

/** What docker's archives and OCI's layouts say. Layers are not read. */
function containerInfo({ config, created, digest, layers }: ContainerImage): ContainerInfo {
  return {
    kind: 'container',
    digest: `sha256:${digest}`,
    created,
    layers: layers.map(({ section, plain }) => ({
      size: section.size,
      digest: plain ? `sha256:${plain}` : null,
    })),
    config: parseImageConfig(config),
  };
}

function containerLines(file: string, { digest, created, layers, config }: ContainerInfo): string[] {
  const rows: string[][] = [
    ['image', file],
    ['format', `container image, ${layers.length} layers; ya-vm image build makes a .gvmi of it`],
    ['digest', digest],
    ['created', new Date(created * 1000).toISOString()],
    ...layers.map((layer, index) => [
      index === 0 ? 'layers' : '',
      `${layer.digest ?? ''} ${formatSize(layer.size)}`,
    ]),
    ...configRows(config),
  ];
  return alignColumns(rows.map((row) => row.map(printable)));
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
  if (config) rows.push(...configRows(config));
  return alignColumns(rows.map((row) => row.map(printable)));
}

function configRows(config: ImageConfig): string[][] {
  return [
    ['entrypoint', words(config.entrypoint)],
    ['cmd', words(config.cmd)],
    ['cwd', config.workingDir ?? '/'],
    ['user', config.user ?? 'root'],
    ...config.env.map((entry, index) => [index === 0 ? 'env' : '', entry]),
    ...config.volumes.map((path, index) => [index === 0 ? 'volumes' : '', path]),
  ];
}

function words(list: readonly string[]): string {
  return list.length === 0 ? '(none)' : JSON.stringify(list);
}
