/** Packages through apt as any user may ask it: nothing is installed, and nothing of the system's changes. */
import { mkdir, readdir, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { RunTool } from '../../initramfs/tool.ts';
import { DriverLayerError } from './errors.ts';

/** Milliseconds for indices and for packages: 300 MB over a slow line. */
const UPDATE_TIMEOUT = 5 * 60_000;
const DOWNLOAD_TIMEOUT = 30 * 60_000;
/** Root's downloads would otherwise go through the user _apt, who cannot write to our folder. */
const AS_ROOT = ['-o', 'APT::Sandbox::User=root'];

export interface AptPlace {
  /** A sources.list of its own, whose indices are fetched; default: apt's, as its last update left them. */
  sources?: string;
  /** Empty; for indices and packages. */
  folder: string;
  run: RunTool;
}

export class Apt {
  readonly #options: readonly string[];
  readonly #folder: string;
  readonly #run: RunTool;

  private constructor(options: readonly string[], { folder, run }: AptPlace) {
    this.#options = [...AS_ROOT, ...options];
    this.#folder = folder;
    this.#run = run;
  }

  /** @throws {DriverLayerError} the sources cannot be read or reached; {ToolError} no apt */
  static async open(place: AptPlace): Promise<Apt> {
    const { sources, folder } = place;
    if (sources === undefined) return new Apt([], place);
    const list = resolve(sources);
    await stat(list).catch((cause) => {
      throw new DriverLayerError(`${sources}: cannot be read`, { cause });
    });
    const own = (name: string) => join(folder, name);
    await mkdir(own('lists/partial'), { recursive: true });
    await mkdir(own('cache/archives/partial'), { recursive: true });
    const apt = new Apt(
      [
        ...['-o', `Dir::Etc::SourceList=${list}`, '-o', 'Dir::Etc::SourceParts=/dev/null'],
        ...['-o', `Dir::State::Lists=${own('lists')}`, '-o', `Dir::Cache=${own('cache')}`],
      ],
      place,
    );
    // Without Error-Mode an index that cannot be had is a warning, and its packages are not there.
    const words = ['-q', '-o', 'APT::Update::Error-Mode=any', 'update'];
    await apt.#ask('apt-get', words, { timeout: UPDATE_TIMEOUT }).catch((cause) => {
      throw new DriverLayerError(`${sources}: apt cannot fetch its indices`, { cause });
    });
    return apt;
  }

  /**
   * Versions that apt could download, its choice first, by name; none of packages that it does not know. All are asked for at
   * once: each question costs a second where apt has to read its indices anew.
   */
  async versions(names: readonly string[]): Promise<Map<string, string[]>> {
    const text = await this.#ask('apt-cache', ['madison', ...names]).catch(() => '');
    const found = new Map<string, string[]>();
    for (const line of text.split('\n')) {
      const [name, version, from] = line.split('|').map((part) => part.trim());
      if (!name || !version || !from) continue;
      const known = found.get(name) ?? [];
      if (!known.includes(version)) found.set(name, [...known, version]);
    }
    return found;
  }

  /** Its control fields. @throws {DriverLayerError} */
  async show(spec: string): Promise<string> {
    return await this.#ask('apt-cache', ['show', '--no-all-versions', spec]).catch((cause) => {
      throw new DriverLayerError(`apt knows no package ${spec}`, { cause, hint: UPDATE_HINT });
    });
  }

  /** `name=version` each; apt compares what comes with its index. @returns paths. @throws {DriverLayerError} */
  async download(specs: readonly string[], name: string): Promise<string[]> {
    const cwd = join(this.#folder, name);
    await mkdir(cwd, { recursive: true });
    await this.#ask('apt-get', ['-q', 'download', ...specs], { cwd, timeout: DOWNLOAD_TIMEOUT }).catch(
      (cause) => {
        throw new DriverLayerError('the packages cannot be downloaded', { cause, hint: UPDATE_HINT });
      },
    );
    return (await readdir(cwd))
      .filter((file) => file.endsWith('.deb'))
      .sort()
      .map((file) => join(cwd, file));
  }

  async #ask(
    program: string,
    words: string[],
    options: { cwd?: string; timeout?: number } = {},
  ): Promise<string> {
    return (await this.#run(program, [...this.#options, ...words], options)).toString('utf8');
  }
}

export const UPDATE_HINT =
  'apt-get update (as root), then again; or --apt-sources FILE, whose indices are fetched';
