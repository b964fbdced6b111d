/** `ya-vm test` and what it lets a provider offer, with a real VM. */
import t from 'tap';
import { privateEnvironment } from '../lib/vm.ts';
import { CliProcess } from '../lib/ya-vm.ts';

/** For a boot under TCG on a busy machine, milliseconds. */
const DEADLINE = 120_000;
const CAPABILITIES = ['manifest-support', 'start-entrypoint', 'vpn', 'inet'];

t.test('all that the self-test proves is offered, its networks too', { timeout: 2 * DEADLINE }, async (t) => {
  const env = { ...privateEnvironment(t), YA_VM_ACCEL: process.env.YAVM_TEST_ACCEL ?? 'tcg' };
  const tested = await new CliProcess(['test', '--json'], { env, deadline: DEADLINE }).ended();
  t.equal(tested.code, 0, tested.stderr);
  t.strictSame(JSON.parse(tested.stdout.toString()).capabilities, CAPABILITIES);
  const offer = await new CliProcess(['offer-template'], { env, deadline: DEADLINE }).ended();
  t.equal(offer.code, 0, offer.stderr);
  t.strictSame(JSON.parse(offer.stdout.toString()).properties['golem.runtime.capabilities'], CAPABILITIES);
});
