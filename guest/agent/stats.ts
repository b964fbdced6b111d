/** `stats`: what the VM uses now. */
import type { Native } from '../../native/face.ts';
import type { StatsReply, StatsRequest } from '../protocol/messages.ts';
import type { Agent } from './agent.ts';

const PAGE_SIZE = 4096;
const MAX_PROC_FILE = 64 * 1024;

export function stats(agent: Agent, request: StatsRequest): StatsReply {
  const { native } = agent;
  const task = agent.task();
  const memory = memoryInfo(native);
  const root = native.statfs(`/proc/self/fd/${task.root.fd}`);
  const reply: StatsReply = {
    uptime: Number.parseFloat(native.readText(-1, '/proc/uptime', MAX_PROC_FILE)) * 1000,
    memory: { ...memory, agent: residentSet(native) },
    cpu: task.cgroups.cpu(),
    root: { total: root.total, free: root.available },
    links: native.links().map(({ name, rxBytes, txBytes }) => ({ name, rxBytes, txBytes })),
    processes: task.commands.size,
  };
  if (request.process !== undefined) {
    const { cgroup } = task.commands.get(request.process);
    const { cpu, memoryPeak } = cgroup.figures();
    reply.process = { cpu, memory: cgroup.memory(), memoryPeak, tasks: cgroup.tasks() };
  }
  return reply;
}

/** Total and available memory in bytes, from /proc/meminfo. */
export function memoryInfo(native: Native): { total: number; available: number } {
  const text = native.readText(-1, '/proc/meminfo', MAX_PROC_FILE);
  const kibibytes = (key: string) => {
    const at = text.indexOf(`${key}:`);
    return at < 0 ? 0 : Number.parseInt(text.slice(at + key.length + 1), 10);
  };
  return { total: kibibytes('MemTotal') * 1024, available: kibibytes('MemAvailable') * 1024 };
}

/** Resident set of the agent itself, bytes (second field of /proc/self/statm, in pages). */
function residentSet(native: Native): number {
  return (
    Number.parseInt(native.readText(-1, '/proc/self/statm', 256).split(' ')[1] as string, 10) * PAGE_SIZE
  );
}
