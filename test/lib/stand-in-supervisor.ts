/**
 * The exe-unit as a program, with test/lib/fake-runtime.ts where the VM would be: starts at once, needs no QEMU, and
 * uses half a second of CPU a second.
 *
 * `node stand-in-supervisor.ts [options] service-bus ACTIVITY REPORT_URL -c CACHE -w WORK -a AGREEMENT`
 */
import { readExeUnitOptions } from '../../host/exe-unit/options.ts';
import { runExeUnit } from '../../host/exe-unit/supervisor.ts';
import { FakeRuntime } from './fake-runtime.ts';

const words = process.argv.slice(process.argv.indexOf('service-bus') + 1);
const [activityId, reportUrl] = words;
const [cacheDir, workDir, agreement] = ['-c', '-w', '-a'].map((option) => words[words.indexOf(option) + 1]);
const options = readExeUnitOptions(
  { activityId, reportUrl, cacheDir, workDir, agreement, capHandoff: process.argv.includes('--cap-handoff') },
  process.env,
);
const began = performance.now();
const runtime = new FakeRuntime();
runtime.usage = () => ({
  ...runtime.current,
  cpuSeconds: (performance.now() - began) / 2000,
  memory: 2 ** 27,
});
runtime.onDeploy = async (_command, progress) => progress({ done: 5, total: 10, unit: 'Bytes' });
process.exitCode = await runExeUnit(options, { env: process.env, terminal: false, runtime: () => runtime });
