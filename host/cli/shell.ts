/** `ya-vm shell`: an interactive login shell, in a VM that runs already or in one of its own. */
import { join } from 'node:path';
import type { Command } from 'commander';
import { AttachClient } from '../attach/client.ts';
import { verifyImage } from '../image/verify.ts';
import { runBase } from '../lib/paths.ts';
import type { CommandSpec } from '../runtime/types.ts';
import { ATTACH_SOCKET, phasesFor, type StartVm, vmSpecOf, withVm } from './boot.ts';
import type { Act } from './commands.ts';
import { type Context, note } from './context.ts';
import { EXIT, signalExit } from './exit.ts';
import { resolveImages } from './image-store.ts';
import { openImages } from './images.ts';
import { Interrupted, Interrupts } from './interrupts.ts';
import { usageError } from './options.ts';
import { type ImageDefaults, planCommand } from './plan.ts';
import { runSession, type SessionEnd } from './session.ts';
import { DETACH_KEYS, windowSize } from './terminal.ts';
import { startActivity, startVm } from './vm.ts';
import { addVmOptions, readVmOptions, titleOf, type VmOptions } from './vm-options.ts';
import { type ListedVm, listVms, selectVm } from './vms.ts';

const HELP = `
With an id the shell runs in that VM, beside its command, and ends when you leave; Ctrl-P Ctrl-Q leaves it running.
Without one a VM is booted for it, and ends with it. Not on a terminal, the shell reads its commands from standard
input. The exit code is the shell's.

Examples:
  ya-vm shell tobikuda
  ya-vm shell tobikuda --user nobody -c 'id; ls -l /tmp'
  ya-vm shell --image task.gvmi --memory 1G
  echo 'uname -a' | ya-vm shell`;

export function define(command: Command, act: Act): void {
  command
    .argument('[id]', "a running VM's id, or a unique beginning of it")
    .option('-c, --command <line>', 'run this line instead of reading commands');
  addVmOptions(command);
  command.addHelpText('after', HELP);
  act(command, (context, options, [id]) => shell(context, options, id as string | undefined));
}

/** `replaced` is what tests start instead of a VM. */
export async function shell(
  context: Context,
  given: Record<string, unknown>,
  id: string | undefined,
  replaced?: StartVm,
): Promise<number> {
  // Before options, which name files that the single program has to unpack: that takes a second once.
  const interrupts = new Interrupts();
  try {
    const options = await readVmOptions(given, context.env);
    // Networks are an activity's.
    const start = replaced ?? (options.network === null ? startVm : startActivity);
    const line = given.command as string | undefined;
    if (id !== undefined && given.image !== undefined) {
      throw usageError('--image is for a new VM, an id for a running one', 'Leave out one of them.');
    }
    if (id !== undefined && options.network !== null) {
      throw usageError('a VM gets its networks at its start', 'Leave out their options, or the id.');
    }
    const end =
      id === undefined
        ? await inNewVm(context, options, { line, interrupts, start })
        : await inRunningVm(context, options, { line, interrupts, id });
    if (end.kind === 'detached') {
      await note(context, `left the shell; it goes on in VM ${id}`);
      return EXIT.ok;
    }
    if (end.kind === 'output-closed') return signalExit('SIGPIPE');
    return end.result?.exitCode ?? EXIT.failure;
  } catch (error) {
    if (error instanceof Interrupted) return error.exitCode;
    throw error;
  } finally {
    interrupts.close();
  }
}

interface ShellParts {
  line: string | undefined;
  interrupts: Interrupts;
}

async function inNewVm(
  context: Context,
  options: VmOptions,
  { line, interrupts, start }: ShellParts & { start: StartVm },
): Promise<SessionEnd> {
  const { progress } = options;
  const { paths } = await resolveImages(context, options.images, { signal: interrupts.signal, progress });
  const images = await openImages(paths, options.assets);
  const command = shellCommand(context, images.defaults, options, line);
  const phases = phasesFor(context, options);
  return await withVm({
    context,
    spec: vmSpecOf(options, images, titleOf(options, ['shell']), command.cwd),
    network: options.network,
    phases,
    signal: interrupts.signal,
    start,
    async use(vm) {
      const running = await vm.run(command);
      phases.ready();
      return await runSession(running, context, { tty: command.tty !== undefined, interrupts });
    },
  });
}

async function inRunningVm(
  context: Context,
  options: VmOptions,
  { line, interrupts, id }: ShellParts & { id: string },
): Promise<SessionEnd> {
  const vm = selectVm(await listVms(runBase(context.env)), id);
  const command = shellCommand(context, await defaultsOf(context, vm), options, line);
  const client = await AttachClient.connect(join(vm.folder, ATTACH_SOCKET), context.log);
  try {
    const running = await client.run(command);
    const tty = command.tty !== undefined;
    const end = await runSession(running, context, {
      tty,
      detachKeys: tty ? DETACH_KEYS : undefined,
      interrupts,
    });
    if (end.kind === 'detached') await client.detach(running);
    return end;
  } finally {
    client.close();
  }
}

/** The image's environment, from its file. The VM runs on without the file, and so does a shell in it. */
async function defaultsOf(context: Context, { record }: ListedVm): Promise<ImageDefaults> {
  const none: ImageDefaults = { env: [], entrypoint: [], cmd: [] };
  if (record.layers[0] === undefined) return none;
  try {
    return (await verifyImage(record.layers[0])).config ?? none;
  } catch (error) {
    context.log.debug({ err: error }, "shell: the image's configuration cannot be read any more");
    return none;
  }
}

/**
 * Finds the user's shell in the image's passwd, by uid, in the VM: only there it is known who the user is. Accounts
 * that may not log in get /bin/sh. Uses nothing but sh's own words and `id`.
 */
const LOGIN = `uid=$(id -u 2>/dev/null || echo 0)
shell=
while IFS=: read -r _ _ entry _ _ _ shell; do [ "$entry" = "$uid" ] && break; shell=; done 2>/dev/null </etc/passwd
case $shell in */nologin|*/false|'') shell=/bin/sh;; esac
[ -x "$shell" ] || shell=/bin/sh
export SHELL="$shell"
if [ $# -gt 0 ]; then exec "$shell" -l -c "$1"; else exec "$shell" -l; fi`;

/** The command that is the shell. A terminal here gives it one there. */
export function shellCommand(
  context: Pick<Context, 'stdin' | 'stdout' | 'env'>,
  defaults: ImageDefaults,
  options: Pick<VmOptions, 'env' | 'cwd' | 'user' | 'rlimits'>,
  line: string | undefined,
): CommandSpec {
  const terminal = context.stdin.isTTY === true && context.stdout.isTTY === true;
  return planCommand(
    { ...defaults, entrypoint: [], cmd: [] },
    {
      ...options,
      command: ['/bin/sh', '-c', LOGIN, 'ya-vm-shell', ...(line === undefined ? [] : [line])],
      stdin: true,
      tty: terminal ? windowSize(context.stdout) : undefined,
      term: context.env.TERM,
    },
  );
}
