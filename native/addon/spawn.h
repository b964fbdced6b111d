// A program to start, decoded and laid out before the clone: the child may not allocate.
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include <string>
#include <vector>

namespace yavm {

struct SpawnFd {
  int parent;
  int child;
  // Where the child keeps its copy of `parent` while it puts all of them in place.
  int spare;
};

struct SpawnLimit {
  int resource;
  uint64_t soft;
  uint64_t hard;
};

struct SpawnPlan {
  // Null-terminated, as execve(2) takes them; `texts` owns what they point to.
  std::vector<const char*> files;
  std::vector<const char*> argv;
  std::vector<const char*> env;
  std::vector<std::string> texts;

  std::vector<SpawnFd> fds;
  // The numbers of `fds` in the child, ascending.
  std::vector<int> kept;
  int root_fd = -1;
  std::string cwd = "/";
  bool has_uid = false;
  bool has_gid = false;
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;
  std::vector<SpawnLimit> limits;
  bool new_session = true;
  int terminal = -1;
  int cgroup_fd = -1;
  bool no_new_privileges = false;
  int death_signal = 0;
  int umask = -1;
  std::string oom_score;  // empty: leave
  bool legacy_clone = false;

  // Set by the parent just before the clone.
  pid_t parent = 0;
  // The kernel could not do it at the clone: the child joins its cgroup and resets every signal itself.
  bool by_hand = false;

  // Set by the child, which shares this memory: what failed. No error: the program runs.
  int error = 0;
  const char* call = nullptr;
  const char* path = nullptr;
};

// Runs in the child, on a stack of its own and in the parent's memory, and ends in execve or _exit. Only system calls.
int RunSpawnChild(void* plan);

// Starts the child and returns when it runs its program or has failed. Returns 0 or the errno of the call in `*call`;
// what the child itself failed at is in the plan.
int CloneSpawnChild(SpawnPlan* plan, pid_t* pid, int* pidfd, const char** call);

}  // namespace yavm
