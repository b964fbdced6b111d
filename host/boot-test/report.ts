/** Reports of boot tests: TAP 14, JUnit's XML, and lines for people. Pure: results → text. */
import { formatDuration } from '../lib/duration.ts';
import { printable } from '../lib/logger.ts';
import type { BootTestResult } from './result.ts';

export const FORMATS = ['tap', 'junit', 'plain'] as const;
export type Format = (typeof FORMATS)[number];

/** Text that goes out before, with each result as it is there, and at the end. */
export interface Reporter {
  begin(count: number): string;
  result(result: BootTestResult, number: number): string;
  /** All results so far; fewer than announced when ya-vm could not go on. */
  end(results: readonly BootTestResult[]): string;
}

export const REPORTERS: Readonly<Record<Format, Reporter>> = {
  tap: { begin: (count) => `TAP version 14\n1..${count}\n`, result: tapResult, end: () => '' },
  junit: { begin: () => '', result: () => '', end: junit },
  plain: { begin: () => '', result: plainResult, end: plainEnd },
};

// ---------------------------------------------------------------- TAP 14 (testanything.org/tap-version-14-specification)

function tapResult(result: BootTestResult, number: number): string {
  const passed = result.outcome === 'passed';
  // A hash would begin a directive.
  const name = printable(result.name).replace(/[\\#]/g, '\\$&').replaceAll('\n', ' ');
  const facts: [string, unknown][] = [
    ['duration_ms', result.milliseconds],
    ['accel', result.accel],
    ['phases', Object.fromEntries(result.phases.map(({ name, milliseconds }) => [name, milliseconds]))],
    ['command', result.command],
    ['exit_code', result.exitCode],
  ];
  if (!passed) {
    facts.unshift(['message', result.failures.join('; ')]);
    facts.push(['console', result.quoted.console], ['output', result.quoted.output], ['kept', result.kept]);
  }
  // JSON is YAML, and nothing in it can end the block.
  const lines = facts.map(([key, value]) => `  ${key}: ${JSON.stringify(value)}`);
  const test = `${passed ? 'ok' : 'not ok'} ${number} - ${name}\n  ---\n${lines.join('\n')}\n  ...\n`;
  return result.outcome === 'error' ? `${test}Bail out! ${oneLine(result.failures.join('; '))}\n` : test;
}

function oneLine(text: string): string {
  return printable(text.replaceAll('\n', ' '));
}

// ---------------------------------------------------------------- JUnit (what GitLab and Jenkins read)

function junit(results: readonly BootTestResult[]): string {
  const count = (outcome: BootTestResult['outcome']) =>
    results.filter((result) => result.outcome === outcome).length;
  const time = results.reduce((sum, { milliseconds }) => sum + milliseconds, 0);
  const counts = `tests="${results.length}" failures="${count('failed')}" errors="${count('error')}" time="${seconds(time)}"`;
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<testsuites ${counts}>`,
    `  <testsuite name="ya-vm boot-test" ${counts}>`,
    ...results.flatMap(junitCase),
    '  </testsuite>',
    '</testsuites>',
    '',
  ].join('\n');
}

function junitCase(result: BootTestResult): string[] {
  const element = { passed: null, failed: 'failure', error: 'error' }[result.outcome];
  const message = result.failures.join('; ');
  const reason = [...result.failures, ...(result.kept === null ? [] : [`kept in ${result.kept}`])].join('\n');
  const properties = [
    ['accel', result.accel ?? 'none'],
    ...result.phases.map(({ name, milliseconds }) => [`phase ${name} ms`, String(milliseconds)]),
  ];
  return [
    `    <testcase classname="boot-test" name="${xml(result.name)}" time="${seconds(result.milliseconds)}">`,
    '      <properties>',
    ...properties.map(([name, value]) => `        <property name="${xml(name)}" value="${xml(value)}"/>`),
    '      </properties>',
    ...(element === null
      ? []
      : [
          `      <${element} message="${xml(message)}">${xml(reason)}</${element}>`,
          `      <system-out>${xml(result.quoted.output.join('\n'))}</system-out>`,
          `      <system-err>${xml(result.quoted.console.join('\n'))}</system-err>`,
        ]),
    '    </testcase>',
  ];
}

const seconds = (milliseconds: number) => (milliseconds / 1000).toFixed(3);

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  '\n': '&#10;',
};

/** Control characters, and what is no character at all, are not allowed in XML 1.0, not even as numbers. */
function xml(text = ''): string {
  return printable(text)
    .replace(/[\ufffe\uffff\ud800-\udfff]/gu, '\ufffd')
    .replace(/[&<>"\n]/g, (character) => ENTITIES[character] as string);
}

// ---------------------------------------------------------------- for people

function plainResult(result: BootTestResult): string {
  const { name, outcome, milliseconds, phases, failures, quoted, kept } = result;
  const word = { passed: 'ok', failed: 'failed', error: 'not tried' }[outcome];
  const times = phases.map((phase) => `${phase.name} ${formatDuration(phase.milliseconds)}`);
  const facts = [formatDuration(milliseconds), ...(result.accel ? [result.accel] : []), ...times].join(' · ');
  const part = (title: string, lines: readonly string[]) =>
    lines.length === 0 ? [] : [`  ${title}:`, ...lines.map((line) => `    ${line}`)];
  return [
    `${word}: ${oneLine(name)} (${facts})`,
    ...failures.map((failure) => `  ${oneLine(failure)}`),
    ...part('last lines of the console', quoted.console),
    ...part('last lines of the output', quoted.output),
    ...(kept === null ? [] : [`  kept in ${kept}`]),
    '',
  ].join('\n');
}

function plainEnd(results: readonly BootTestResult[]): string {
  const passed = results.filter(({ outcome }) => outcome === 'passed').length;
  return `${passed} of ${results.length} passed\n`;
}
