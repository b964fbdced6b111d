/** `make docs`: writes the pages that are made from data. A test tells when one is older than its data. */
import { writeFileSync } from 'node:fs';
import { SECTIONS } from '../host/errors/table.ts';
import { troubleshootingPage } from './troubleshooting.ts';

writeFileSync('docs/troubleshooting.md', troubleshootingPage(SECTIONS));
