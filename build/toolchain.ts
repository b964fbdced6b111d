/** The toolchains of the engine: musl for what ships, the machine's own with sanitizers for tests. */
import { existsSync, mkdirSync, readlinkSync, symlinkSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT, runTool, ToolError } from './tool.ts';

export interface Toolchain {
  /** Names the folder of its objects. */
  name: string;
  cc: string;
  cxx: string;
  /** Of every C file. */
  cFlags: string[];
  /** Of every C++ file. */
  cxxFlags: string[];
  /** Of the files that are written here, in both languages. */
  warnings: string[];
  /** Of every C file, QuickJS's too. */
  optimise: string;
  /** The linker driver, and what comes before the objects. */
  link: [program: string, ...flags: string[]];
  /** What comes after the objects. */
  libraries: string[];
}

/** What ships is small, and says nothing of the machine that built it: two builds are byte-identical. */
const SMALL = ['-ffunction-sections', '-fdata-sections', `-ffile-prefix-map=${ROOT}/=`];

/** The agent reads bytes of peers that nobody trusts: a smashed stack is a crash with a report, not an opening. */
const SAFE = ['-fstack-protector-strong'];

/** Of everything that is written here. */
const WARNINGS = ['-Wall', '-Wextra'];

/** C++ as the addon is written: exceptions and RTTI off, and no threads. */
const CXX = [
  '-std=gnu++17',
  '-fno-exceptions',
  '-fno-rtti',
  '-fno-threadsafe-statics',
  '-fno-asynchronous-unwind-tables',
];

/** The folders where a compiler looks for `<…>`, in its order. */
async function includeFolders(compiler: string, language: string): Promise<string[]> {
  // "-v" speaks on standard error; gcc puts it on standard output only together with the preprocessed text.
  const text = await runTool('sh', ['-c', `${compiler} -x ${language} -E -v /dev/null 2>&1`]);
  const list = text.split('search starts here:\n').at(-1)?.split('End of search list')[0] ?? '';
  return list
    .split('\n')
    .filter((line) => line.startsWith(' '))
    .map((line) => line.trim());
}

/** Points `name` in `folder` at `target`. */
function link(folder: string, name: string, target: string): void {
  const path = join(folder, name);
  if (!existsSync(target))
    throw new ToolError(`${target} is missing; "make setup" installs linux-libc-dev with g++`);
  try {
    if (readlinkSync(path) === target) return;
    unlinkSync(path);
  } catch {
    // Not there yet.
  }
  symlinkSync(target, path);
}

/**
 * A folder with the kernel's headers and nothing else: musl's own search path has none, and the system's include
 * folder, where they lie, is full of glibc's.
 */
async function kernelHeaders(objects: string): Promise<string> {
  const folder = join(objects, 'kernel-headers');
  const multiarch = (await runTool('gcc', ['-print-multiarch'])).trim();
  mkdirSync(folder, { recursive: true });
  link(folder, 'linux', '/usr/include/linux');
  link(folder, 'asm-generic', '/usr/include/asm-generic');
  link(folder, 'asm', join('/usr/include', multiarch, 'asm'));
  return folder;
}

function system(folders: string[]): string[] {
  return folders.flatMap((folder) => ['-isystem', folder]);
}

/** What ships: a static ELF on musl. `objects` is the folder for what the build makes. */
export async function muslToolchain(objects: string): Promise<Toolchain> {
  const kernel = await kernelHeaders(objects);
  const musl = await includeFolders('musl-gcc', 'c');
  const libstdcxx = (await includeFolders('g++', 'c++')).filter((folder) => folder.includes('c++'));
  // The distribution's libstdc++ is configured for glibc; these few files of ours take the place of what says so.
  const overlay = join(ROOT, 'native/engine/musl-c++');
  return {
    name: 'musl',
    cc: 'musl-gcc',
    cxx: 'g++',
    cFlags: [...SMALL, ...SAFE, '-fno-asynchronous-unwind-tables', ...system([kernel])],
    cxxFlags: [
      ...[...SMALL, ...SAFE, ...CXX, '-Os', '-nostdinc', '-nostdinc++'],
      ...system([overlay, ...libstdcxx, ...musl, kernel]),
    ],
    warnings: WARNINGS, // Another compiler may know more of them: no reason to refuse a build.
    // −Os makes /init 150 KB smaller (the compressed initramfs 60 KB of 0.7 MB) and the messages of the agent's protocol
    // 1.5 times as slow. Link-time optimisation gains 4 KB and no time: not used.
    optimise: '-O2',
    link: ['musl-gcc', '-static', '-Wl,--gc-sections', '-Wl,--build-id=none', '-Wl,-z,noexecstack'],
    // Of libstdc++ only what has no exceptions in it is taken, such as the trees of std::map.
    libraries: [(await runTool('g++', ['-print-file-name=libstdc++.a'])).trim(), '-lm'],
  };
}

/** For tests: the machine's libc, with the address and undefined-behaviour sanitizers. */
export function sanitizedToolchain(): Toolchain {
  const sanitize = [
    '-fsanitize=address,undefined',
    '-fno-sanitize-recover=undefined',
    '-fno-omit-frame-pointer',
    '-g1',
  ];
  return {
    name: 'sanitized',
    cc: 'gcc',
    cxx: 'g++',
    cFlags: [...sanitize],
    cxxFlags: [...sanitize, ...CXX, '-O1'],
    warnings: [...WARNINGS, '-Werror'],
    // QuickJS compiles three times as fast as with -O1, and a test's scripts are short.
    optimise: '-O0',
    link: ['g++', ...sanitize],
    libraries: ['-lm'],
  };
}
