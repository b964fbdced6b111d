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
  report(step: StepResult): Promise<void>;
}

/** An emulated self-test on a busy host takes half a minute, milliseconds. */
const RUN_DEADLINE = 180_000;
const MAX_OUTPUT = 1024 * 1024;

interface Story {
  descriptor?: Descriptor;
  workFolder: string;
}

/** @returns whether all is well. What a step throws is its finding; steps after it would make no sense. */
export async function checkProvider({ place, env, activity, report }: CheckOptions): Promise<boolean> {
  const story: Story = { workFolder: mkdtempSync(join(tmpdir(), 'ya-vm-check-')) };
  const steps: [string, () => Promise<string> | string][] = [
    ['descriptor', () => findDescriptor(place, story)],
    ['program', () => checkProgram(descriptorOf(story))],
    ['test', () => runTest(descriptorOf(story), story.workFolder, env)],
    ['offer-template', () => runOffer(descriptorOf(story), story.workFolder, env)],
  ];
  if (activity) steps.push(['activity', () => activity(descriptorOf(story), story.workFolder)]);
  try {
    for (const [name, step] of steps) {
      const result = await resultOf(name, step);
      await report(result);
      if (!result.ok) return false;
    }
    return true;
  } finally {
    rmSync(story.workFolder, { recursive: true, force: true });
  }
}

async function resultOf(name: string, step: () => Promise<string> | string): Promise<StepResult> {
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
  const found = files.flatMap((file) => ours(file));
  const [first, second] = found;
  if (!first) throw checkError(`${where}: no runtime '${RUNTIME_NAME}' there`, 'ya-vm provider install');
  if (second) {
    const both = `${first.path} and ${second.path}`;
    throw checkError(`'${RUNTIME_NAME}' is described twice: ${both}`, 'ya-vm provider install --replace');
  }
  story.descriptor = first.descriptor;
  return `${first.path}: ${RUNTIME_NAME} ${first.descriptor.version}`;
}

function ours({ path, descriptors }: DescriptorFile): { path: string; descriptor: Descriptor }[] {
  const named = descriptors.filter(({ name }) => name === RUNTIME_NAME);
  return named.map((descriptor) => ({ path, descriptor }));
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
