import t from 'tap';
import { EXIT } from '../../host/cli/exit.ts';
import { runProgram } from '../../host/cli/program.ts';
import { allExplanations, findExplanation, similarCodes, typedForm } from '../../host/errors/lookup.ts';
import { testContext } from '../lib/cli.ts';

async function explain(...words: string[]): Promise<{ code: number; out: string; err: string }> {
  const context = testContext();
  const code = await runProgram(['explain', ...words], context);
  return { code, out: context.out(), err: context.err() };
}

t.test('a code is found as people write it', async (t) => {
  for (const word of [
    'YAVM_E_GPU_BUSY',
    'yavm_e_gpu_busy',
    'GPU_BUSY',
    'gpu-busy',
    '(YAVM_E_GPU_BUSY)',
    'GPU_BUSY,',
  ])
    t.equal(findExplanation(word)?.code, 'YAVM_E_GPU_BUSY', word);
  t.equal(findExplanation('spawn-failed')?.code, 'YAVM_E_GUEST_SPAWN_FAILED', 'as the guest calls it');
  t.equal(findExplanation('gpu'), null, 'a part of a code is none');
  for (const { code } of allExplanations()) {
    t.equal(findExplanation(typedForm(code))?.code, code, typedForm(code));
  }
});

t.test('what it prints', async (t) => {
  const { code, out } = await explain('gpu-busy', 'GUEST_BUSY');
  t.equal(code, EXIT.ok);
  t.equal(
    out,
    'YAVM_E_GPU_BUSY (Graphics cards)\n' +
      '  meaning:    another VM has the card\n' +
      '  what helps: ya-vm ps, ya-vm stop ID\n' +
      'YAVM_E_GUEST_BUSY (Requests to the guest)\n' +
      '  meaning:    too many requests wait for the guest\n',
  );
  t.same(JSON.parse((await explain('--json', 'gpu-busy')).out), [
    {
      code: 'YAVM_E_GPU_BUSY',
      section: 'Graphics cards',
      meaning: 'another VM has the card',
      helps: 'ya-vm ps, ya-vm stop ID',
    },
  ]);
});

t.test('without a code all are listed, under their sections', async (t) => {
  const { out } = await explain();
  for (const { code, section } of allExplanations()) {
    t.match(out, `  ${code} `);
    t.match(`\n${out}`, `\n${section}\n`);
  }
  t.same(JSON.parse((await explain('--json')).out), allExplanations());
});

t.test('no Markdown is left in a terminal', async (t) => {
  for (const { code, meaning, helps } of allExplanations()) t.notMatch(`${meaning} ${helps}`, /`|\]\(/, code);
  const linked = allExplanations().filter(({ helps }) => helps?.includes('(docs/transfers.md)'));
  t.ok(linked.length > 0, 'a link names its page');
});

t.test('a code that there is not: an error, with what may have been meant, and nothing else', async (t) => {
  const { code, out, err } = await explain('gpu_busy', 'gpu_bussy');
  t.match({ code, out }, { code: EXIT.failure, out: '' });
  t.match(
    err,
    /no error has the code 'gpu_bussy' \(YAVM_E_USAGE\)\n {2}hint: Did you mean YAVM_E_GPU_BUSY\?/,
  );
  t.match((await explain('xyzzy-plugh')).err, /hint: 'ya-vm explain' lists all/);
});

t.test('what may have been meant', async (t) => {
  t.same(similarCodes('imag_hash'), ['YAVM_E_IMAGE_HASH']);
  t.same(similarCodes('gpu'), similarCodes('YAVM_E_GPU'));
  t.ok(similarCodes('gpu').length > 3 && similarCodes('e').length < 10, 'codes that hold it, not too many');
  t.same(similarCodes(''), []);
  t.same(similarCodes('?'.repeat(1000)), []);
  t.same(similarCodes('Z'.repeat(1_000_000)), [], 'a long one is not compared whole');
});
