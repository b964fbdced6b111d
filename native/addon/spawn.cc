// spawn: options in, a running program out, or an error that says which step of the child failed.
#include <algorithm>

#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "args.h"
#include "error.h"
#include "exports.h"
#include "spawn.h"
#include "sys.h"
#include "value.h"

namespace yavm {
namespace {

constexpr size_t kMaxCandidates = 1024;
constexpr size_t kMaxFds = 256;
constexpr int kMaxChildFd = 1023;
constexpr size_t kMaxGroups = 65536;
constexpr size_t kMaxLimits = 64;
// Above what execve(2) can take (6 MiB of strings): the kernel, not we, says E2BIG for anything that it might allow.
constexpr size_t kMaxStrings = 1 << 20;
constexpr size_t kMaxStringBytes = 8 << 20;

class Decoder {
 public:
  Decoder(Args& args, napi_value options, SpawnPlan* plan) : args_(args), options_(options), plan_(plan) {}

  // False: an exception is pending, or the strings are beyond any limit (see TooBig).
  bool Decode() {
    DecodeStrings();
    DecodeFds();
    DecodeUser();
    DecodeLimits();
    DecodeSettings();
    return args_.Ok() && !TooBig();
  }
  bool TooBig() const { return bytes_ > kMaxStringBytes; }

 private:
  // Strings are stored first and pointed to later: the vector moves them while it grows.
  size_t StoreList(const char* name, size_t most) {
    const size_t start = plan_->texts.size();
    napi_value list = args_.Property(options_, name);
    for (napi_value element : args_.ListOf(list, name, most)) {
      if (TooBig()) break;
      plan_->texts.push_back(args_.TextOf(element, name, kMaxStringBytes));
      bytes_ += plan_->texts.back().size() + 1;
    }
    return plan_->texts.size() - start;
  }

  void PointTo(size_t start, size_t count, std::vector<const char*>* pointers) {
    for (size_t i = 0; i < count; i++) pointers->push_back(plan_->texts[start + i].c_str());
    pointers->push_back(nullptr);
  }

  void DecodeStrings() {
    const size_t files = StoreList("file", kMaxCandidates);
    const size_t argv = StoreList("argv", kMaxStrings);
    const size_t env = StoreList("env", kMaxStrings);
    if (files == 0) args_.Reject("file", "at least one path");
    if (argv == 0) args_.Reject("argv", "at least one string");
    PointTo(0, files, &plan_->files);
    PointTo(files, argv, &plan_->argv);
    PointTo(files + argv, env, &plan_->env);
  }

  void DecodeFds() {
    for (napi_value element : args_.ListOf(args_.Property(options_, "fds"), "fds", kMaxFds)) {
      const std::vector<int64_t> pair = args_.IntegersOf(element, "fds", 2, 0, INT32_MAX);
      if (pair.size() != 2 || pair[1] > kMaxChildFd) {
        args_.Reject("fds", "pairs of descriptors, the child's at most " + std::to_string(kMaxChildFd));
        return;
      }
      plan_->fds.push_back(SpawnFd{static_cast<int>(pair[0]), static_cast<int>(pair[1]), -1});
      plan_->kept.push_back(static_cast<int>(pair[1]));
    }
    std::sort(plan_->kept.begin(), plan_->kept.end());
    for (size_t i = 1; i < plan_->kept.size(); i++) {
      if (plan_->kept[i] == plan_->kept[i - 1]) args_.Reject("fds", "different descriptors of the child");
    }
  }

  void DecodeUser() {
    int64_t id = 0;
    plan_->has_uid = Integer("uid", 0, UINT32_MAX - 1, &id);
    plan_->uid = static_cast<uid_t>(id);
    id = 0;
    plan_->has_gid = Integer("gid", 0, UINT32_MAX - 1, &id);
    plan_->gid = static_cast<gid_t>(id);
    napi_value groups = args_.Property(options_, "groups");
    if (!groups) return;
    for (int64_t group : args_.IntegersOf(groups, "groups", kMaxGroups, 0, UINT32_MAX - 1)) {
      plan_->groups.push_back(static_cast<gid_t>(group));
    }
    if (!plan_->has_gid) args_.Reject("groups", "given together with gid");
  }

  void DecodeLimits() {
    napi_value limits = args_.Property(options_, "rlimits");
    if (!limits) return;
    for (napi_value element : args_.ListOf(limits, "rlimits", kMaxLimits)) {
      const std::vector<int64_t> limit = args_.IntegersOf(element, "rlimits", 3, -1, kMaxSafeInteger);
      if (limit.size() != 3 || limit[0] < 0 || limit[0] > INT32_MAX) {
        args_.Reject("rlimits", "triples of resource, soft and hard limit");
        return;
      }
      plan_->limits.push_back(SpawnLimit{static_cast<int>(limit[0]), Limit(limit[1]), Limit(limit[2])});
    }
  }

  static uint64_t Limit(int64_t value) { return value < 0 ? ~uint64_t{0} : static_cast<uint64_t>(value); }

  void DecodeSettings() {
    int64_t number = 0;
    if (Integer("rootFd", 0, INT32_MAX, &number)) plan_->root_fd = static_cast<int>(number);
    if (Integer("cgroupFd", 0, INT32_MAX, &number)) plan_->cgroup_fd = static_cast<int>(number);
    if (Integer("umask", 0, 0777, &number)) plan_->umask = static_cast<int>(number);
    if (Integer("parentDeathSignal", 1, 64, &number)) plan_->death_signal = static_cast<int>(number);
    if (Integer("oomScoreAdjust", -1000, 1000, &number)) plan_->oom_score = std::to_string(number);
    Flag("newSession", &plan_->new_session);
    Flag("noNewPrivileges", &plan_->no_new_privileges);
    Flag("legacyClone", &plan_->legacy_clone);
    if (Integer("controllingTerminal", 0, kMaxChildFd, &number)) {
      plan_->terminal = static_cast<int>(number);
      plan_->new_session = true;
    }
    napi_value cwd = args_.Property(options_, "cwd");
    if (cwd) plan_->cwd = args_.TextOf(cwd, "cwd");
  }

  bool Integer(const char* name, int64_t least, int64_t most, int64_t* out) {
    napi_value value = args_.Property(options_, name);
    if (!value) return false;
    *out = args_.IntegerOf(value, name, least, most);
    return args_.Ok();
  }

  void Flag(const char* name, bool* out) {
    napi_value value = args_.Property(options_, name);
    if (value) *out = args_.FlagOf(value, name);
  }

  Args& args_;
  napi_value options_;
  SpawnPlan* plan_;
  size_t bytes_ = 0;
};

// A child that changes its user while it shares our memory takes our "dumpable" flag away: /proc/self would belong to
// root from then on. Until the child has its own memory that protects us from that user; afterwards it is undone.
class DumpableKept {
 public:
  explicit DumpableKept(bool needed) : before_(needed ? prctl(PR_GET_DUMPABLE) : -1) {}
  ~DumpableKept() {
    if (before_ == 1 && prctl(PR_GET_DUMPABLE) != 1) prctl(PR_SET_DUMPABLE, 1);
  }

 private:
  int before_;
};

}  // namespace

Napi::Value Spawn(const Napi::CallbackInfo& info) {
  Args args(info, "spawn");
  napi_value options = args.Object(0, "options");
  if (!args.Ok()) return Nothing();
  SpawnPlan plan;
  Decoder decoder(args, options, &plan);
  if (!decoder.Decode()) return args.Ok() ? Fail(args.Env(), E2BIG, "execve", plan.files[0]) : Nothing();
  pid_t pid = -1;
  int pidfd = -1;
  const char* call = nullptr;
  int error = 0;
  {
    DumpableKept kept(plan.has_uid || plan.has_gid);
    error = CloneSpawnChild(&plan, &pid, &pidfd, &call);
  }
  if (error) return Fail(args.Env(), error, call);
  if (plan.error) {
    close(pidfd);
    Retry([&] { return waitpid(pid, nullptr, 0); });
    return Fail(args.Env(), plan.error, plan.call, plan.path);
  }
  napi_value result = MakeObject(args.Env());
  SetNumber(args.Env(), result, "pid", pid);
  SetNumber(args.Env(), result, "pidfd", pidfd);
  return Napi::Value(args.Env(), result);
}

}  // namespace yavm
