/** Names that somebody else may have for a while (BindOptions). */
import t from 'tap';
import type { Flex } from '../../host/gsb/types.ts';
import { withDeadline } from '../../host/lib/deadline.ts';
import { connectTo, startRouter } from '../lib/gsb-router.ts';

const echo = { unary: (body: Flex) => body };

t.test('such a name is tried until it is free, and nothing waits for it', async (t) => {
  const router = await startRouter(t);
  let left = 7;
  router.register = (name) => (name === '/shared' && left-- > 0 ? 409 : 0);
  const gsb = connectTo(t, router);
  let taken = 0;
  const bound = gsb.bind('/shared', echo, { retry: 5, onTaken: () => taken++ });
  await gsb.bind('/own', echo);
  t.equal(gsb.state, 'up', 'before the other one is ours');
  await withDeadline(bound, 10_000, 'the name');
  t.equal(taken, 7, 'more often than other names are tried');
});

t.test('given up while it is taken; a name that the bus does not take', async (t) => {
  const router = await startRouter(t);
  router.register = (name) => (name === '/never' ? 400 : 409);
  const gsb = connectTo(t, router);
  await t.rejects(gsb.bind('/never', echo, { retry: 5 }), { code: 'YAVM_E_GSB_REFUSED' });
  const refused = new Promise<void>((resolve) => {
    const bound = gsb.bind('/shared', echo, { retry: 5, onTaken: resolve });
    t.rejects(bound, { code: 'YAVM_E_GSB_CLOSED' });
  });
  await withDeadline(refused, 10_000, 'the refusal');
  await gsb.unbind('/shared');
  t.equal(gsb.state, 'up');
});

t.test('somebody else gets it while the bus restarts: the connection lives on', async (t) => {
  const router = await startRouter(t);
  const gsb = connectTo(t, router);
  await gsb.bind('/shared', echo, { retry: 5 });
  await router.stop();
  const tried = new Promise<void>((resolve) => {
    let count = 0;
    router.register = () => {
      if (++count === 20) resolve();
      return 409;
    };
  });
  await router.listen();
  await withDeadline(tried, 10_000, 'twenty attempts');
  t.equal(gsb.state, 'up');
});
