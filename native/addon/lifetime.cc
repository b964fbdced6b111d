#include "lifetime.h"

#include <napi.h>

#include <set>
#include <vector>

#include "callback.h"
#include "loop.h"
#include "stream_table.h"
#include "watch.h"

namespace yavm {
namespace {

struct Lists {
  int depth = 0;
  bool deferred = false;
  std::vector<Subject*> announced;
  std::vector<Subject*> buried;
};
thread_local Lists lists;

void OnDeferred(void*, int) {
  lists.deferred = false;
  Entry entry(Entry::From::kLoop);
}

}  // namespace

void Announce(Subject* subject) {
  if (subject->announced_) return;
  subject->announced_ = true;
  lists.announced.push_back(subject);
}

void Bury(Subject* subject) {
  if (subject->buried_) return;
  subject->buried_ = true;
  lists.buried.push_back(subject);
}

// Only what is announced now: a callback that announces more cannot keep the loop from its other work.
void DeliverAnnounced() {
  std::vector<Subject*> batch;
  batch.swap(lists.announced);
  for (Subject* subject : batch) {
    subject->announced_ = false;
    subject->Deliver();
  }
}

void FreeBuried() {
  std::vector<Subject*> batch;
  batch.swap(lists.buried);
  for (Subject* subject : batch) {
    if (subject->announced_) {
      lists.buried.push_back(subject);  // still to be told about
    } else {
      delete subject;
    }
  }
}

void EndThread() {
  CloseAllStreams();
  CloseAllWatches();
  std::set<Subject*> all(lists.announced.begin(), lists.announced.end());
  all.insert(lists.buried.begin(), lists.buried.end());
  lists.announced.clear();
  lists.buried.clear();
  for (Subject* subject : all) delete subject;
}

Entry::Entry(From from) : from_(from) {
  lists.depth++;
  if (from_ == From::kLoop) {
    napi_handle_scope scope = nullptr;
    napi_open_handle_scope(CurrentEnv(), &scope);
    scope_ = scope;
  }
}

Entry::~Entry() {
  if (lists.depth == 1 && from_ == From::kLoop && !lists.announced.empty()) DeliverAnnounced();
  if (from_ == From::kLoop) napi_close_handle_scope(CurrentEnv(), static_cast<napi_handle_scope>(scope_));
  lists.depth--;
  if (lists.depth > 0) return;
  FreeBuried();
  if (lists.announced.empty() || lists.deferred) return;
  lists.deferred = yavm_loop_defer(OnDeferred, nullptr) == 0;
}

}  // namespace yavm
