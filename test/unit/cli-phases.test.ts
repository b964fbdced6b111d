import t from 'tap';
import { fit, nextPhase, type PhaseScreen, Phases, summary } from '../../host/cli/phases.ts';
import { alignColumns, colourWanted, styleFor } from '../../host/cli/style.ts';

const ERASE = '\r\u001b[K';

function screen(change: Partial<PhaseScreen> = {}): PhaseScreen & { text: string; time: number } {
  const made: PhaseScreen & { text: string; time: number } = {
    text: '',
    time: 0,
    live: true,
    style: styleFor(false),
    columns: () => 80,
    now: () => made.time,
    write: (text: string) => {
      made.text += text;
    },
    ...change,
  };
  return made;
}

const kernel = { name: 'kernel', milliseconds: 1610 } as const;
const disk = { name: 'disk', milliseconds: 35 } as const;
const accelerator = { name: 'accelerator', milliseconds: 2 } as const;

t.test('a terminal sees a live line, which gives way to a summary', async (t) => {
  const shown = screen();
  const phases = new Phases(shown);
  phases.start();
  t.equal(shown.text, `${ERASE}⠋ accelerator 0 ms`);
  shown.text = '';
  phases.add(accelerator);
  t.match(shown.text, /⠙ accelerator 2 ms · disk 0 ms$/);
  phases.accelerator = 'tcg';
  phases.add(disk);
  shown.text = '';
  phases.add(kernel);
  phases.ready();
  const lines = shown.text.split(ERASE);
  t.equal(lines.at(-1), 'ya-vm: tcg 2 ms · disk 35 ms · kernel 1.61 s · 1.65 s in all\n');
  shown.text = '';
  phases.ended('exit code 0');
  t.equal(shown.text, 'ya-vm: exit code 0\n');
});

t.test('the live line goes on with the time of the phase that runs', async (t) => {
  const shown = screen();
  const phases = new Phases(shown);
  phases.start();
  shown.time = 1234;
  while (!shown.text.includes('1.23 s')) await new Promise((resolve) => setTimeout(resolve, 5));
  t.match(shown.text, /accelerator 1\.23 s/);
  phases.clear();
  t.ok(shown.text.endsWith(ERASE), 'erased');
  const before = shown.text;
  phases.ready();
  phases.clear();
  t.equal(shown.text, before, 'and not touched again');
});

t.test('a line never wraps, however narrow the terminal is', async (t) => {
  const shown = screen({ columns: () => 20 });
  const phases = new Phases(shown);
  phases.start();
  phases.add(accelerator);
  phases.add(disk);
  for (const line of shown.text.split(ERASE)) t.ok(line.length < 20, line);
  phases.clear();
  t.equal(fit('abcdef', 4), 'abc…');
  t.equal(fit('abcdef', 6), 'abcdef');
});

t.test('a pipe sees nothing, and the phases are kept', async (t) => {
  const shown = screen({ live: false });
  const phases = new Phases(shown);
  phases.start();
  phases.add(accelerator);
  phases.add(kernel);
  phases.ready();
  phases.ended('x');
  phases.clear();
  t.equal(shown.text, '');
  t.same(phases.done, [accelerator, kernel]);
});

t.test('phases follow each other in their order', async (t) => {
  t.equal(nextPhase([]), 'accelerator');
  t.equal(nextPhase([accelerator]), 'disk');
  t.equal(nextPhase([accelerator, disk]), 'start');
  t.equal(nextPhase([kernel]), 'agent');
  t.equal(nextPhase([{ name: 'command', milliseconds: 1 }]), 'command');
  t.equal(summary([]), '');
  t.equal(summary([kernel]), 'kernel 1.61 s');
});

t.test('colours are for terminals that want them', async (t) => {
  t.equal(colourWanted(true, {}), true);
  t.equal(colourWanted(false, {}), false);
  t.equal(colourWanted(true, { NO_COLOR: '1' }), false);
  t.equal(colourWanted(true, { NO_COLOR: '' }), true);
  t.equal(colourWanted(true, { TERM: 'dumb' }), false);
  t.equal(styleFor(true).red('x'), '\u001b[31mx\u001b[39m');
  t.equal(styleFor(false).red('x'), 'x');
});

t.test('columns are aligned, the last one is not padded', async (t) => {
  t.same(alignColumns([['a', 'bb', 'c'], ['aaa', 'b', ''], ['x']]), ['a    bb  c', 'aaa  b', 'x']);
});
