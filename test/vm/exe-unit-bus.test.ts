/** A bus that goes and comes back, and more output than fits anywhere, with a command in a real VM. */
import { createHash } from 'node:crypto';
import t from 'tap';
import type { Flex } from '../../host/gsb/types.ts';
import { sleep, withDeadline } from '../../host/lib/deadline.ts';
import { silentLogger } from '../../host/lib/logger.ts';
import type { ActivityEvent } from '../../host/node/activity-service.ts';
import { LocalNode } from '../../host/node/node.ts';
import { begin, logOf, perform, sh } from '../lib/exe-unit-activity.ts';
import { SUPERVISOR_ENDS } from '../lib/in-time.ts';
import { findQemu, waitUntil } from '../lib/processes.ts';
import { bytes, soak } from '../lib/scale.ts';

// Most of it is waiting: for a bus that is away, for a node's patience to end. So they run at the same time.
t.jobs = 3;
const LONG = { timeout: 400_000 };
/** Seconds that the bus is away. */
const OUTAGES = soak ? [1, 4, 7] : [1, 7];

t.test(
  'the bus restarts under a command: no number is missing, and the activity goes on',
  LONG,
  async (t) => {
    const { activity, requestor, node } = await begin(t);
    await perform(requestor, [{ deploy: {} }, { start: {} }]);
    let current = node;
    for (const seconds of OUTAGES) {
      const lines = (seconds + 4) * 10;
      const script = [sh(`i=0; while [ $i -lt ${lines} ]; do echo $i; i=$((i+1)); sleep 0.1; done`)];
      const batch = await current.requestor(activity.activity).exec(script);
      await sleep(1000);
      await current.close();
      await sleep(seconds * 1000);
      current = await LocalNode.start({ address: node.address, logger: silentLogger, acceptUnknown: true });
      const { service } = current;
      t.teardown(() => current.close());
      const reports: string[] = [];
      service.listen((event: ActivityEvent) => void reports.push(event.kind));
      await waitUntil(() => reports.length > 1, 60_000);
      t.equal(reports[0], 'usage', 'usage comes first');
      const [result] = await current.requestor(activity.activity).finished(batch);
      t.match(result, { ok: true, message: null });
      const expected = Array.from({ length: lines }, (_, index) => `${index}\n`).join('');
      t.equal(result?.stdout, expected, `every number, after ${seconds} s without a bus`);
    }
    t.match(await perform(current.requestor(activity.activity), [sh('echo on')]), [
      { ok: true, stdout: 'on\n' },
    ]);
    t.same(await activity.stop(SUPERVISOR_ENDS), { code: 0, signal: null });
  },
);

t.test('the bus stays away: an orderly end, with the reason in the log, and no QEMU', LONG, async (t) => {
  const { activity, requestor, node, vms } = await begin(t);
  await perform(requestor, [{ deploy: {} }, { start: {} }]);
  await requestor.exec([sh('sleep 1000')]);
  const ids = vms();
  t.equal(findQemu(ids).length, 1);
  await node.close();
  t.same(await withDeadline(activity.ended, 60_000, 'the supervisor'), { code: 0, signal: null });
  t.same(findQemu(ids), []);
  t.same(vms(), []);
  t.match(logOf(activity), /Reporting endpoint '\/local\/activity' is not available/);
});

t.test(
  '100 MB of output: all of it through a stream, the beginning and the size in the results',
  LONG,
  async (t) => {
    const { activity, requestor } = await begin(t);
    await perform(requestor, [{ deploy: {} }, { start: {} }]);
    const size = bytes(100_000_000);
    const line = 'all work and no play makes jack a dull boy\n';
    const everything: Flex = { stream: {} };
    const script: Flex[] = [
      {
        run: {
          entry_point: '/bin/sh',
          args: ['-c', `yes '${line.trim()}' | head -c ${size}`],
          capture: { stdout: everything },
        },
      },
    ];
    const batch = await requestor.exec(script);
    const [seen, expected] = [createHash('sha256'), createHash('sha256')];
    let received = 0;
    for await (const event of requestor.stream(batch)) {
      if (event.kind !== 'stdout') continue;
      received += event.output.length;
      seen.update(event.output);
    }
    const block = line.repeat(10_000);
    for (let left = size; left > 0; left -= block.length) expected.update(block.slice(0, left));
    t.equal(received, size);
    t.equal(seen.digest('hex'), expected.digest('hex'), 'byte for byte');

    const [result] = await requestor.finished(batch);
    const cap = 32 * 1024 * 1024;
    t.equal(result?.stdout?.length, Math.min(size, cap));
    if (size > cap) t.match(result?.message, new RegExp(`stdout: ${cap} of ${size} bytes`));
    t.same(await activity.stop(SUPERVISOR_ENDS), { code: 0, signal: null });
  },
);
