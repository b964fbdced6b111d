// When native objects that JavaScript knows by a number are told about, and freed.
//
// A callback may close, stop or open anything. So nothing is freed while any of our code is on the stack, and
// endings are never reported from inside a call of JavaScript: they are announced, and delivered from the event loop.
#pragma once

namespace yavm {

class Subject {
 public:
  virtual ~Subject() = default;
  // Calls back to JavaScript about what was announced. May bury this.
  virtual void Deliver() = 0;

 private:
  friend class Entry;
  friend void Announce(Subject* subject);
  friend void Bury(Subject* subject);
  friend void DeliverAnnounced();
  friend void FreeBuried();
  friend void EndThread();
  bool announced_ = false;
  bool buried_ = false;
};

// Deliver() will be called once from the event loop; announcing again before that changes nothing.
void Announce(Subject* subject);

// Deletes the subject as soon as no code of ours is on the stack and nothing announced is outstanding.
void Bury(Subject* subject);

// This thread's environment ends: closes every channel and watch of it, without a callback, and frees all.
void EndThread();

// Brackets every entry into this part of the addon, from JavaScript or from the event loop.
class Entry {
 public:
  enum class From { kJavaScript, kLoop };
  explicit Entry(From from);
  ~Entry();
  Entry(const Entry&) = delete;
  Entry& operator=(const Entry&) = delete;

 private:
  From from_;
  void* scope_ = nullptr;
};

}  // namespace yavm
