import t from 'tap';
import { describeEnd, EXIT, exitCodeOf, signalExit, signalName } from '../../host/cli/exit.ts';
import { YavmError } from '../../host/lib/errors.ts';
import { GuestRequestError } from '../../host/runtime/guest-errors.ts';

const spawnFailed = (errno: string, syscall?: string) =>
  new GuestRequestError('run', { code: 'spawn-failed', message: 'no', errno, syscall, path: '/x' });

t.test('a command that cannot be started has the exit code that a shell gives', async (t) => {
  const table: [string, unknown, number][] = [
    ['not found', spawnFailed('ENOENT', 'execve'), EXIT.notFound],
    ['no permission', spawnFailed('EACCES', 'execve'), EXIT.notExecutable],
    ['bad format', spawnFailed('ENOEXEC', 'execve'), EXIT.notExecutable],
    ['too long', spawnFailed('E2BIG', 'execve'), EXIT.notExecutable],
    ['no such working directory', spawnFailed('ENOENT', 'chdir'), EXIT.notExecutable],
    ['unknown user', new GuestRequestError('run', { code: 'unknown-user', message: 'no' }), EXIT.failure],
    ['no VM', new YavmError('YAVM_E_VM_SPEC', 'no'), EXIT.failure],
    ['as a cause', new YavmError('YAVM_E_VM_SPEC', 'no', { cause: spawnFailed('ENOENT') }), EXIT.notFound],
    ['a bug', new TypeError('no'), EXIT.failure],
    ['no error at all', 'text', EXIT.failure],
  ];
  for (const [name, error, code] of table) t.equal(exitCodeOf(error), code, name);
});

t.test('signals have the exit codes and names that people know', async (t) => {
  t.equal(signalExit('SIGINT'), 130);
  t.equal(signalExit('SIGTERM'), 143);
  t.equal(signalExit('SIGPIPE'), 141);
  t.equal(signalExit(9), 137);
  t.equal(signalName(9), 'SIGKILL');
  t.equal(signalName(40), 'signal 40');
});

t.test('an end is told in a few words', async (t) => {
  t.equal(describeEnd({ exitCode: 3, outOfMemory: false }), 'exit code 3');
  t.equal(describeEnd({ exitCode: 137, signal: 9, outOfMemory: true }), 'killed by SIGKILL (out of memory)');
});
