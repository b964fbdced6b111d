/** The dispatch table: one entry a request. */

import { mountVolumes } from '../boot/volumes.ts';
import { GuestError } from '../errors.ts';
import type { Operation, ReplyOf, RequestOf } from '../protocol/messages.ts';
import { abort } from './abort.ts';
import type { Agent } from './agent.ts';
import { configure } from './configure.ts';
import { cancel, readFiles, writeFiles } from './files.ts';
import { prepare } from './prepare.ts';
import { shutdown } from './shutdown.ts';
import { stats } from './stats.ts';

type Handler<Op extends Operation> = (
  agent: Agent,
  request: RequestOf<Op>,
  id: number,
) => ReplyOf[Op] | Promise<ReplyOf[Op]>;

/** Set by the bundler: true only in the test build of `/init`. */
declare const __YAVM_TEST__: boolean;

export const handlers: { [Op in Operation]: Handler<Op> } = {
  ping: ({ native }) => ({ uptime: native.monotonic() }),
  prepare,
  configure,
  run: (agent, request, id) => {
    if (agent.stopping) throw new GuestError('shutting-down', 'the VM is shutting down');
    return { pid: agent.task().commands.start(id, request).pid };
  },
  signal: (agent, request) => {
    agent
      .task()
      .commands.get(request.process)
      .signal(request.signal, request.tree ?? false);
    return {};
  },
  input: (agent, request) => {
    agent.task().commands.get(request.process).closeInput();
    return {};
  },
  resize: (agent, request) => {
    agent.task().commands.get(request.process).resize(request.rows, request.columns);
    return {};
  },
  mount: async (agent, request) => {
    await mountVolumes(agent, agent.task().root, [request.mount]);
    return {};
  },
  network: async (agent, request) => {
    await agent.task().network.apply(request.network);
    return {};
  },
  'read-files': readFiles,
  'write-files': writeFiles,
  cancel,
  stats,
  shutdown,
  'log-level': (agent, request) => {
    agent.log.setLevel(request.level);
    return {};
  },
  abort: (agent, request) => {
    if (!__YAVM_TEST__) throw new GuestError('unknown-request', "unknown request 'abort'");
    return abort(agent, request);
  },
};
