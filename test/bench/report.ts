/** `make bench-report`: draws docs/template-starts.svg of what `make bench` has measured. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { OUT } from './context.ts';
import { decodeResults } from './results.ts';
import { startPlot } from './start-plot.ts';

const results = decodeResults(JSON.parse(readFileSync(join(OUT, 'bench.json'), 'utf8')));
writeFileSync('docs/template-starts.svg', startPlot(results));
