/** `provider check`: starts what is installed exactly as the provider would, and says what is wrong. */
import { spawn } from 'node:child_process';
import { accessSync, constants, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { withDeadline } from '../lib/deadline.ts';
import { describeError, YavmError } from '../lib/errors.ts';
import {
  type Descriptor,
  type DescriptorFile,
  GPU_RUNTIME_NAME,
  listDescriptors,
  type PluginPlace,
  RUNTIME_NAME,
} from './descriptor.ts';

export interface StepResult {
  name: string;
  ok: boolean;
  detail: string;
}

export interface CheckOptions {
  place: PluginPlace;
  env: Readonly<Record<string, string | undefined>>;
  /** Runs an activity with the program; left out where that is not possible. */
  activity?: (descriptor: Descriptor, workFolder: string) => Promise<string>;
  /** Looks at the cards of a descriptor `vm-nvidia` of ours, and at their driver. */
  gpu?: {
    cards(descriptor: Descriptor): string;
    layer(descriptor: Descriptor): Promise<string>;
  };
  report(step: StepResult): Promise<void>;
}

/** An emulated self-test on a busy host takes half a minute, milliseconds. */
const RUN_DEADLINE = 180_000;
const MAX_OUTPUT = 1024 * 1024;

type Step = [name: string, work: () => Promise<string> | string];

interface Story {
  descriptor?: Descriptor;
  /** `vm-nvidia` with the same program; another's is no concern of ours. */
  gpu?: Descriptor;
  workFolder: string;
}

/** @returns whether all is well. What a step throws is its finding; steps after it would make no sense. */
export async function checkProvider({ place, env, activity, gpu, report }: CheckOptions): Promise<boolean> {
  const story: Story = { workFolder: mkdtempSync(join(tmpdir(), 'ya-vm-check-')) };
  const steps: Step[] = [
    ['descriptor', () => findDescriptor(place, story)],
    ['program', () => checkProgram(descriptorOf(story))],
    ['test', () => runTest(descriptorOf(story), story.workFolder, env)],
    ['offer-template', () => runOffer(descriptorOf(story), story.workFolder, env)],
  ];
  if (activity) steps.push(['activity', () => activity(descriptorOf(story), story.workFolder)]);
  try {
    for (const step of steps) if (!(await passes(step, report))) return false;
    return story.gpu && gpu ? await checkGpu(story.gpu, gpu, story.workFolder, { env, report }) : true;
  } finally {
    rmSync(story.workFolder, { recursive: true, force: true });
  }
}

/** Cards and driver are looked at both, whatever is wrong with one of them: their fixes have nothing to do with each other. */
async function checkGpu(
  descriptor: Descriptor,
  gpu: NonNullable<CheckOptions['gpu']>,
  workFolder: string,
  { env, report }: Pick<CheckOptions, 'env' | 'report'>,
): Promise<boolean> {
  const cards = await passes(['gpu cards', () => gpu.cards(descriptor)], report);
  const layer = await passes(['gpu driver', () => gpu.layer(descriptor)], report);
  if (!cards || !layer) return false;
  return (
    (await passes(['gpu test', () => runTest(descriptor, workFolder, env)], report)) &&
    (await passes(['gpu offer', () => runOffer(descriptor, workFolder, env)], report))
  );
}

async function passes([name, work]: Step, report: CheckOptions['report']): Promise<boolean> {
  const result = await resultOf(name, work);
  await report(result);
  return result.ok;
}

async function resultOf(name: string, step: Step[1]): Promise<StepResult> {
  try {
    return { name, ok: true, detail: await step() };
  } catch (error) {
    return { name, ok: false, detail: describeError(error) };
  }
}

function descriptorOf({ descriptor }: Story): Descriptor {
  if (!descriptor) throw new Error('no descriptor was found');
  return descriptor;
}

function findDescriptor(place: PluginPlace, story: Story): string {
  const where = join(place.folder, place.pattern);
  const files = listDescriptors(place);
  const broken = files.find(({ problem }) => problem !== null);
  if (broken) throw checkError(`${broken.path}: ${broken.problem}`, 'The provider would not start.');
  const found = files.flatMap((file) => named(file, RUNTIME_NAME));
  const [first, second] = found;
  if (!first) throw checkError(`${where}: no runtime '${RUNTIME_NAME}' there`, 'ya-vm provider install');
  if (second) {
    const both = `${first.path} and ${second.path}`;
    throw checkError(`'${RUNTIME_NAME}' is described twice: ${both}`, 'ya-vm provider install --replace');
  }
  const { supervisor } = first.descriptor;
  const withCards = files.flatMap((file) => named(file, GPU_RUNTIME_NAME));
  story.descriptor = first.descriptor;
  story.gpu = withCards.find(({ descriptor }) => descriptor.supervisor === supervisor)?.descriptor;
  return `${first.path}: ${RUNTIME_NAME} ${first.descriptor.version}`;
}

function named(
  { path, descriptors }: DescriptorFile,
  wanted: string,
): { path: string; descriptor: Descriptor }[] {
  return descriptors.filter(({ name }) => name === wanted).map((descriptor) => ({ path, descriptor }));
}

function checkProgram({ supervisor }: Descriptor): string {
  try {
    accessSync(supervisor, constants.X_OK);
  } catch (cause) {
    throw new YavmError('YAVM_E_PROVIDER_CHECK', `${supervisor} cannot be executed`, {
      cause,
      hint: 'Was it moved? ya-vm provider install, from its new place',
    });
  }
  return supervisor;
}

async function runTest(descriptor: Descriptor, cwd: string, env: CheckOptions['env']): Promise<string> {
  const { code, milliseconds, stdout, stderr } = await runAsProvider(descriptor, ['test'], cwd, env);
  if (code !== 0) throw checkError(`it ended with ${code}: ${lastLines(stderr || stdout)}`);
  return `passed in ${Math.round(milliseconds)} ms`;
}

async function runOffer(descriptor: Descriptor, cwd: string, env: CheckOptions['env']): Promise<string> {
  const { code, milliseconds, stdout, stderr } = await runAsProvider(
    descriptor,
    ['offer-template'],
    cwd,
    env,
  );
  if (code !== 0) throw checkError(`it ended with ${code}: ${lastLines(stderr || stdout)}`);
  let offer: { properties?: Record<string, unknown> };
  try {
    offer = JSON.parse(stdout);
  } catch {
    throw checkError(`standard output is not JSON: ${lastLines(stdout)}`);
  }
  const properties = offer?.properties ?? {};
  const vector = properties['golem.com.usage.vector'];
  if (!Array.isArray(vector))
    throw checkError("it has no list 'golem.com.usage.vector': no offer would be made");
  const capabilities = properties['golem.runtime.capabilities'];
  const acceleration = properties['golem.runtime.vm.acceleration'];
  const facts = [`${Math.round(milliseconds)} ms`, String(acceleration ?? ''), String(capabilities ?? '')];
  return facts.filter((fact) => fact !== '').join(', ');
}

interface Run {
  /** Or the signal's name. */
  code: number | string;
  stdout: string;
  stderr: string;
  milliseconds: number;
}

/** As the provider: its own session, its environment, no shell; what it would inherit as stderr is kept here. */
async function runAsProvider(
  { supervisor, extraArgs }: Descriptor,
  words: string[],
  cwd: string,
  env: CheckOptions['env'],
): Promise<Run> {
  const began = performance.now();
  const ended = (signal: AbortSignal) =>
    new Promise<Run>((resolve, reject) => {
      const child = spawn(supervisor, [...extraArgs, ...words], {
        cwd,
        env: { ...env },
        detached: true,
        stdio: ['ignore', 'pipe', 'pipe'],
        signal,
        killSignal: 'SIGKILL',
      });
      const texts = { stdout: '', stderr: '' };
      for (const name of ['stdout', 'stderr'] as const) {
        child[name].on('data', (chunk: Buffer) => {
          texts[name] = (texts[name] + chunk).slice(0, MAX_OUTPUT);
        });
      }
      child.once('error', reject);
      child.once('close', (code, by) =>
        resolve({ code: code ?? by ?? 'unknown', ...texts, milliseconds: performance.now() - began }),
      );
    });
  return await withDeadline(ended, RUN_DEADLINE, `'${words.join(' ')}'`);
}

function lastLines(text: string): string {
  return text.trim().split('\n').slice(-4).join(' / ').slice(-600) || 'no output';
}

function checkError(message: string, hint?: string): YavmError {
  return new YavmError('YAVM_E_PROVIDER_CHECK', message, { hint });
}
