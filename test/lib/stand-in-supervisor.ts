/**
 * The exe-unit as a program, with test/lib/fake-runtime.ts where the VM would be: starts at once, needs no QEMU, and
 * has used half a second of CPU more each time it is asked. Transfers are real; the VM's files are kept in memory.
 *
 * `node stand-in-supervisor.ts [options] service-bus ACTIVITY REPORT_URL -c CACHE -w WORK -a AGREEMENT`
 */
import { tmpdir } from 'node:os';
import { readExeUnitOptions } from '../../host/exe-unit/options.ts';
import { runExeUnit } from '../../host/exe-unit/supervisor.ts';
import { runTransfer } from '../../host/exe-unit/transfers.ts';
import { FakeRuntime } from './fake-runtime.ts';
import { MemoryFiles } from './memory-files.ts';

const words = process.argv.slice(process.argv.indexOf('service-bus') + 1);
const [activityId, reportUrl] = words;
const [cacheDir, workDir, agreement] = ['-c', '-w', '-a'].map((option) => words[words.indexOf(option) + 1]);
const options = readExeUnitOptions(
  { activityId, reportUrl, cacheDir, workDir, agreement, capHandoff: process.argv.includes('--cap-handoff') },
  process.env,
);
let cpuSeconds = 0;
const runtime = new FakeRuntime();
runtime.usage = () => {
  cpuSeconds += 0.5;
  return { ...runtime.current, cpuSeconds, memory: 2 ** 27 };
};
runtime.onDeploy = async (_command, progress) => progress({ done: 5, total: 10, unit: 'Bytes' });
const { env } = process;
const files = new MemoryFiles();
process.exitCode = await runExeUnit(options, {
  env,
  terminal: false,
  runtime(_task, logger, bus) {
    runtime.onTransfer = (command, progress, signal) =>
      runTransfer(command, {
        files,
        bus,
        allowFiles: false,
        tempFolder: tmpdir(),
        env,
        progress,
        signal,
        logger,
      });
    return runtime;
  },
});
