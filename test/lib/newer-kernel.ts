/** A kernel newer than Debian 12's own, from its backports: apt gets a configuration of ours, the system's stays as it is. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { toError } from '../../host/lib/errors.ts';
import { fetchKernelPackage, type KernelSource } from '../../initramfs/kernel/source.ts';
import { type RunTool, runTool } from '../../initramfs/tool.ts';

/** Apart from the build's packages, whose cache would take the two for one by their name. */
const FOLDER = join(import.meta.dirname, '../../build/cache/backports');
const CONFIG = join(FOLDER, 'apt.conf');
const SUITE = 'bookworm-backports';
/** By which all of Debian's archives are signed; apt's own lists do not tell it. */
const KEYS = '/usr/share/keyrings/debian-archive-keyring.gpg';
/** What apt's own sources say of where Debian 12 is. */
const SOURCE = '$(SITE)|$(CODENAME)|$(COMPONENT)';

/** Its 34 MB are fetched once, and kept: later runs do not ask apt. `skip`: why it is not to be had; false: it is. */
export async function fetchNewerKernel(): Promise<
  { kernel: KernelSource; skip: false } | { kernel: null; skip: string }
> {
  let ready: Promise<void> | undefined;
  const run: RunTool = async (command, args, options = {}) => {
    if (!command.startsWith('apt-')) return runTool(command, args, options);
    ready ??= prepare();
    await ready;
    return runTool(command, args, withConfig(options));
  };
  const cache = { folder: join(FOLDER, 'packages'), run, state: async () => 'kept' };
  const kernel = await fetchKernelPackage(cache).catch(toError);
  if (kernel instanceof Error) return { kernel: null, skip: `no kernel of ${SUITE} here: ${reason(kernel)}` };
  return { kernel, skip: false };
}

/** Lists of the one suite, in our folder. @throws {Error} apt has no Debian 12 among its sources, or cannot reach it. */
async function prepare(): Promise<void> {
  const format = ['indextargets', '--format', SOURCE, 'Created-By: Packages'];
  const targets = (await runTool('apt-get', format)).toString('utf8').trim().split('\n');
  const target = targets
    .map((line) => line.split('|'))
    .find(([, name, part]) => name === 'bookworm' && part === 'main');
  if (target === undefined) throw new Error('no Debian 12 among the sources of apt');
  const [site] = target;
  for (const folder of ['lists/partial', 'cache/archives/partial'])
    await mkdir(join(FOLDER, folder), { recursive: true });
  await writeFile(join(FOLDER, 'sources.list'), `deb [signed-by=${KEYS}] ${site} ${SUITE} main\n`);
  const settings = {
    'Dir::Etc::SourceList': join(FOLDER, 'sources.list'),
    'Dir::Etc::SourceParts': '/dev/null',
    'Dir::State::Lists': join(FOLDER, 'lists'),
    'Dir::Cache': join(FOLDER, 'cache'),
    'APT::Sandbox::User': 'root',
    'APT::Update::Error-Mode': 'any',
    'Acquire::Retries': '0',
    'Acquire::http::Timeout': '20',
  };
  const lines = Object.entries(settings).map(([name, value]) => `${name} "${value}";\n`);
  await writeFile(CONFIG, lines.join(''));
  await runTool('apt-get', ['-q', 'update'], withConfig({}));
}

function withConfig(options: Parameters<RunTool>[2] & object): Parameters<RunTool>[2] & object {
  return { ...options, env: { ...options.env, APT_CONFIG: CONFIG } };
}

/** The innermost cause says what is wrong with the network. */
function reason(error: Error): string {
  return error.cause instanceof Error ? reason(error.cause) : error.message;
}
