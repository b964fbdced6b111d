import t from 'tap';
import { changedUnder, refusal, samePair, TRANSITIONS } from '../../host/exe-unit/state.ts';
import type { StatePair } from '../../host/exe-unit/types.ts';

const PREFIX = 'Local service error: State error: ';
const KINDS = ['deploy', 'start', 'run', 'transfer', 'sign', 'terminate'] as const;

t.test('which command may begin in which state', async (t) => {
  const allowed: [StatePair, string[]][] = [
    [
      ['New', null],
      ['sign', 'terminate'],
    ],
    [
      ['Initialized', null],
      ['deploy', 'sign', 'terminate'],
    ],
    [
      ['Deployed', null],
      ['start', 'transfer', 'sign', 'terminate'],
    ],
    [
      ['Ready', null],
      ['run', 'transfer', 'sign', 'terminate'],
    ],
    [
      ['Initialized', 'Deployed'],
      ['sign', 'terminate'],
    ],
    [
      ['Ready', 'Ready'],
      ['sign', 'terminate'],
    ],
    [['Ready', 'Terminated'], []],
    [['Terminated', null], []],
  ];
  for (const [pair, expected] of allowed) {
    t.strictSame(
      KINDS.filter((kind) => refusal(pair, kind) === null),
      expected,
      pair.join(),
    );
  }
});

t.test('refusals as upstream words them', async (t) => {
  t.equal(refusal(['Ready', 'Ready'], 'run'), `${PREFIX}Busy: StatePair(Ready, Some(Ready))`);
  t.equal(
    refusal(['Initialized', 'Deployed'], 'start'),
    `${PREFIX}Busy: StatePair(Initialized, Some(Deployed))`,
  );
  t.equal(
    refusal(['Initialized', null], 'run'),
    `${PREFIX}Activity is initialized - deploy() command is expected now`,
  );
  t.equal(
    refusal(['Deployed', null], 'deploy'),
    `${PREFIX}Activity is deployed - start() command is expected now`,
  );
  t.equal(refusal(['Ready', null], 'start'), `${PREFIX}Cannot send command after a successful start()`);
  t.equal(
    refusal(['New', null], 'run'),
    `${PREFIX}This command is not allowed when activity is in the New state`,
  );
  t.equal(
    refusal(['Ready', 'Terminated'], 'sign'),
    `${PREFIX}This command is not allowed when activity is in the Terminated state`,
  );
  t.equal(
    changedUnder(['Initialized', null], ['Ready', 'Ready']),
    `${PREFIX}Unexpected state: StatePair(Initialized, None), expected StatePair(Ready, Some(Ready))`,
  );
});

t.test('the table leads from one command to the next', async (t) => {
  t.same(TRANSITIONS.deploy, { Initialized: 'Deployed' });
  t.same(TRANSITIONS.start, { Deployed: 'Ready' });
  t.same(TRANSITIONS.run, { Ready: 'Ready' });
  t.same(TRANSITIONS.transfer, { Deployed: 'Deployed', Ready: 'Ready' }, 'files may come before the start');
  t.equal(TRANSITIONS.sign, undefined);
  t.ok(samePair(['Ready', null], ['Ready', null]));
  t.notOk(samePair(['Ready', null], ['Ready', 'Ready']));
});
