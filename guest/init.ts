/** PID 1: the boot order. Everything before `hello` knows only the VM's shape; `configure` brings the rest. */
import { native } from '../native/native.ts';
import { Agent } from './agent/agent.ts';
import { hello } from './agent/hello.ts';
import { startHooks } from './agent/hooks.ts';
import { listen } from './agent/listen.ts';
import { Log } from './agent/log.ts';
import { openPorts } from './agent/ports.ts';
import { loadEarlyModules } from './boot/modules.ts';
import { mountEarly } from './boot/mounts.ts';
import { engine } from './engine.ts';
import { runFilesRole } from './files/role.ts';
import { runHookRole } from './hook/role.ts';
import { O_CLOEXEC, O_DIRECTORY, O_RDONLY } from './lib/constants.ts';

async function boot(): Promise<void> {
  const system = native();
  const init = system.monotonic();
  mountEarly(system);
  const initramfsFd = system.open('/', O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  const modules = loadEarlyModules(system, initramfsFd);
  const loaded = system.monotonic();

  const ports = await openPorts(system);
  engine().setFatalFd(ports.log);
  const channels = listen(system, ports);
  const log = new Log(system, channels.log);
  engine().setConsole((level, text) => log.write(level, text));

  const agent = new Agent({
    native: system,
    log,
    modules,
    controlChannel: channels.control,
    dataChannel: channels.data,
  });
  channels.serve(agent);
  agent.session.notify(hello(system, { init, modules: loaded }));
  startHooks(agent);
}

const [, role, name, ...words] = engine().args;
if (role === '--role' && name === 'files') {
  // It is one callback, and takes as long as there are files: years of CPU time, should it come to that.
  engine().setCallbackBudget(1e9);
  runFilesRole(native(), words, engine().exit);
} else if (role === '--role' && name === 'hook') {
  void runHookRole(native(), words, engine());
} else {
  void boot();
}
