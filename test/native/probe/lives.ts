/** Things that outlive a call (lives.cc), and promises. */
import { type Ask, show } from './show.ts';

export async function* lives(ask: Ask, collect: () => Promise<void>): AsyncGenerator<string> {
  let target: object | null = { alive: true };
  yield `strong ${ask('refer', target, 1)} ${show(ask('referred'))} ${show(ask('count', 1))} ${show(ask('count', -1))}`;
  target = null;
  await collect();
  yield `held ${show(ask('referred'))}`;
  yield `weak ${show(ask('count', -1))} ${show(ask('count', -1))}`;
  await collect();
  yield `gone ${show(ask('referred'))} ${show(ask('count', 1))} ${ask('unrefer')}`;
  let other: object | null = { other: true };
  yield `weak from the start ${ask('refer', other, 0)} ${show(ask('referred'))} ${show(ask('count', 1))}`;
  other = null;
  await collect();
  yield `made strong ${show(ask('referred'))} ${ask('unrefer')}`;
  yield `no object ${ask('refer', 5, 1)} ${ask('refer', 'text', 1)} ${ask('refer', Symbol('s'), 1)}`;
  yield `external ${show(ask('openExternal', ask('external')))} ${show(ask('openExternal', {}))} ${show(ask('openExternal', 5))}`;
  yield `wrap ${show(ask('wrap', {}))} ${show(ask('wrap', Object.freeze({})))}`;
  yield `add finalizers ${show(ask('addFinalizers', {}))}`;
  const tagged = {};
  yield `tag ${show(ask('tag', tagged))} ${show(Reflect.ownKeys(tagged))}`;
  yield `instance ${show(ask('instance'))}`;
  await collect();
  // Two wraps, two finalizers, two externals (one of kind above).
  yield `finalized ${ask('finalized')} freed ${ask('freed')}`;
}

export async function* promises(ask: Ask): AsyncGenerator<string> {
  const first = ask('promise') as Promise<unknown>;
  const order: string[] = [];
  const done = first.then((value) => order.push(`then ${show(value)}`));
  order.push(`settle ${ask('settle', 0, 'good')}`);
  await done;
  yield `promise ${show(order)}`;
  const second = ask('promise') as Promise<unknown>;
  const caught = second.catch((error) => show(error));
  yield `rejected ${ask('settle', 1, new Error('bad'))} ${await caught}`;
}
