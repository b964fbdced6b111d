/** `ya-vm image build`: a `.gvmi` of a folder, a tar, a `docker save` archive or an OCI layout. */
import { stat } from 'node:fs/promises';
import { basename, dirname, resolve } from 'node:path';
import type { Command } from 'commander';
import { type BuildStep, type Built, buildImage } from '../image/build/build.ts';
import type { ConfigChanges } from '../image/build/config.ts';
import type { Ownership } from '../image/build/mksquashfs.ts';
import { DEFAULT_PACKER, PACKERS, type Packer } from '../image/build/packers.ts';
import { openSource, type Source } from '../image/source/source.ts';
import { verifyImage } from '../image/verify.ts';
import { YavmError } from '../lib/errors.ts';
import { formatSize } from '../lib/size.ts';
import type { Act } from './commands.ts';
import { type Context, note, print, printJson, styleOf } from './context.ts';
import { EXIT } from './exit.ts';
import { hashImage } from './image-hash.ts';
import { Interrupted, Interrupts } from './interrupts.ts';
import { collect, forOption, parseChoice, parseGuestPath, parseInteger, usageError } from './options.ts';
import { ProgressLine } from './progress-line.ts';

const HELP = `
SOURCE is a folder or a tar (also compressed) with a root file system, an archive of 'docker save', or an OCI layout, in
a folder or a tar. What it is is told by its content; docker-archive:FILE[:TAG], oci:DIR[:TAG] and oci-archive:FILE[:TAG]
say it, and which of several images is meant. Needs no root and no docker. Same source, same bytes: times are the
source's, or SOURCE_DATE_EPOCH.

--entrypoint and --cmd are written as in a Dockerfile: ["prog","arg"], or text for /bin/sh -c; '' clears.

Examples:
  docker save alpine:latest -o alpine.tar && ya-vm image build alpine.tar
  ya-vm image build docker-archive:many.tar:job:1.2 --output job.gvmi --env N=10
  ya-vm image build ./rootfs --cmd '["/bin/sh"]' --compressor lzo
  ya-vm image build oci:./layout --json | jq -r .taskPackage`;

export function defineBuild(command: Command, act: Act): void {
  const build = command
    .command('build')
    .argument('<source>', 'folder, tar, docker-archive:FILE[:TAG], oci:DIR[:TAG], oci-archive:FILE[:TAG]')
    .description('make a .gvmi without docker and without root')
    .option('-o, --output <file>', "where the image goes (default: the source's name, .gvmi, here)")
    .option('--tag <tag>', 'which of several images; as :TAG behind the source')
    .option(
      '--compressor <name>',
      `${PACKERS.join(', ')} (default: ${DEFAULT_PACKER.compressor}, level ${DEFAULT_PACKER.level})`,
      forOption('--compressor', (text) => parseChoice(text, PACKERS, 'compressor')),
    )
    .option(
      '--level <n>',
      'how thoroughly: zstd 1 to 22, gzip and lzo 1 to 9, lz4 1 or 2',
      forOption('--level', (text) => parseInteger(text, 1, 22, 'level')),
    )
    .option(
      '--owner <keep|root|uid:gid>',
      'owner of all files (default: as found; of a folder, unless you are root: root)',
      forOption('--owner', parseOwner),
    )
    .option(
      '-e, --env <K=V>',
      'environment variable; may be repeated',
      collect(forOption('--env', parseEntry)),
    )
    .option(
      '--entrypoint <words>',
      'replace the Entrypoint, and drop the Cmd',
      forOption('--entrypoint', parseWords),
    )
    .option('--cmd <words>', 'replace the Cmd', forOption('--cmd', parseWords))
    .option('--workdir <path>', 'working directory of commands', forOption('--workdir', parseGuestPath))
    .option('--user <user>', 'who runs commands: name or uid, [:group]')
    .option(
      '--volume <path>',
      'add a volume; may be repeated',
      collect(forOption('--volume', parseGuestPath)),
    )
    .option('--label <K=V>', 'add a label; may be repeated', collect(forOption('--label', parseEntry)))
    .option('--temp <folder>', "where layers are expanded (default: the output's folder)")
    .option('--json', 'print an object')
    .option('--no-progress', 'do not show how far it is')
    .addHelpText('after', HELP);
  act(build, (context, options, [source]) => runBuild(context, source as string, options as BuildWords));
}

type BuildWords = Omit<ConfigChanges, 'env' | 'labels' | 'volumes' | 'workingDir'> & {
  output?: string;
  tag?: string;
  compressor?: Packer;
  level?: number;
  owner?: Ownership;
  env?: string[];
  workdir?: string;
  volume?: string[];
  label?: string[];
  temp?: string;
  json?: boolean;
  progress: boolean;
};

async function runBuild(context: Context, text: string, words: BuildWords): Promise<number> {
  const interrupts = new Interrupts();
  try {
    const built = await build(context, text, words, interrupts.signal);
    const hash = await hashImage(built.path, 'sha3-224', interrupts.signal);
    const taskPackage = `hash:sha3:${hash}:URL`;
    if (words.json) await printJson(context, { ...built, hash, taskPackage });
    else await print(context, ...resultLines(built, taskPackage));
    return EXIT.ok;
  } catch (error) {
    if (!(error instanceof Interrupted)) throw error;
    await note(context, `${error.message}; no image was made`);
    return error.exitCode;
  } finally {
    interrupts.close();
  }
}

async function build(context: Context, text: string, words: BuildWords, signal: AbortSignal): Promise<Built> {
  const temp = await folderFor(words.temp ?? dirname(resolve(words.output ?? '.')));
  const source = await openSource(text, { signal, temp, tag: words.tag });
  const line = progressFor(context, words.progress);
  try {
    if (source.kind === 'image') throw await alreadyBuilt(source);
    const { compressor = DEFAULT_PACKER.compressor } = words;
    return await buildImage({
      source,
      output: words.output ?? defaultName(source.path),
      temp: words.temp,
      compressor,
      level: words.level ?? (compressor === DEFAULT_PACKER.compressor ? DEFAULT_PACKER.level : undefined),
      owner: words.owner,
      changes: {
        ...{ env: words.env, entrypoint: words.entrypoint, cmd: words.cmd, user: words.user },
        ...{ workingDir: words.workdir, volumes: words.volume, labels: words.label },
      },
      signal,
      onStep: words.progress ? (step) => showStep(line, step) : undefined,
      onDropped: (attribute) =>
        context.log.warn({ attribute }, 'image: an attribute of files that squashfs cannot keep is left out'),
      env: context.env,
    });
  } finally {
    line.clear();
    source.close();
  }
}

/** Steps in words. */
const STEPS: Readonly<Record<BuildStep['step'], string>> = { read: 'reading layers', pack: 'packing' };

export function showStep(line: ProgressLine, { step, done, total }: BuildStep): void {
  line.update(STEPS[step], done, total);
}

export function progressFor(context: Context, shown: boolean): ProgressLine {
  const { stderr, env } = context;
  return new ProgressLine({
    write: (text) => void stderr.write(text),
    shown,
    live: stderr.isTTY === true && env.TERM !== 'dumb',
    columns: () => stderr.columns ?? 80,
    style: styleOf(context, stderr),
    now: () => performance.now(),
  });
}

async function folderFor(path: string): Promise<string> {
  const found = await stat(path).catch(() => null);
  if (found?.isDirectory()) return resolve(path);
  throw usageError(`${path}: is no folder`, 'Make it, or choose another with --output or --temp.');
}

/** What a squashfs that was given instead of a source is. */
async function alreadyBuilt({ path }: Source): Promise<YavmError> {
  const { kind } = await verifyImage(path);
  return usageError(`${path}: is an image already (${kind})`, `Run it as it is: ya-vm run --image ${path}`);
}

/** `dir/alpine.tar.gz` → `alpine.gvmi`, here. */
function defaultName(path: string): string {
  const name = basename(resolve(path)).replace(/\.(tar(\.\w+)?|tgz|tzst|txz|tbz2?)$/i, '');
  return `${name || 'image'}.gvmi`;
}

function resultLines({ path, size }: Built, taskPackage: string): string[] {
  return [`${path}  ${formatSize(size)}`, `in a demand: ${taskPackage}  (URL: where you put it)`];
}

function parseOwner(text: string): Ownership {
  if (text === 'keep') return 'keep';
  if (text === 'root') return { uid: 0, gid: 0 };
  const [, uid, gid] = /^(\d{1,10}):(\d{1,10})$/.exec(text) ?? [];
  const owner = { uid: Number(uid), gid: Number(gid) };
  if (owner.uid <= MAX_ID && owner.gid <= MAX_ID) return owner;
  throw usageError(`'${text}' is no owner`, 'Write keep, root, or numbers: 1000:1000.');
}

/** 2^32 - 1 means "none". */
const MAX_ID = 2 ** 32 - 2;

function parseEntry(text: string): string {
  if (/^[^=\0]+=[^\0]*$/s.test(text)) return text;
  throw usageError(`'${text}' is not KEY=value`);
}

/** As in a Dockerfile: a list in JSON, or text for a shell. Empty: no words. */
export function parseWords(text: string): string[] {
  if (text.trim() === '') return [];
  if (!text.trimStart().startsWith('[')) return ['/bin/sh', '-c', text];
  let words: unknown;
  try {
    words = JSON.parse(text);
  } catch (cause) {
    throw new YavmError('YAVM_E_USAGE', `'${text}' is no list in JSON`, { cause, hint: WORDS_HINT });
  }
  if (Array.isArray(words) && words.every((word) => typeof word === 'string')) return words;
  throw usageError(`'${text}' is no list of words`, WORDS_HINT);
}

const WORDS_HINT = `Write ["prog","arg"], or text for /bin/sh -c.`;
