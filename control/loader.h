// Loads configurations off the control thread: a file may be long, and may be on a disk or a file
// server that does not answer.
#ifndef GUIDEWAY_CONTROL_LOADER_H_
#define GUIDEWAY_CONTROL_LOADER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "control/event_loop.h"
#include "control/source.h"

namespace guideway {

// What there is to be loaded, one of three.
struct WhatToLoad {
  std::shared_ptr<const ConfigSource> kept;  // what was loaded once; reads no file
  std::optional<std::string> text;           // of the file `name`; relative paths as in `home`
  std::string name;                          // or the file itself
  std::string home;
};

// One at a time. A file in which it gets nowhere for kPatience is given up: the error names it.
// When kMaxThreadsApart hang, no file is read at all; what names none is loaded all the same.
//
// Thread contract: the loop's, which must outlive it. Destroying it forgets what is being loaded.
class Loader {
 public:
  static constexpr absl::Duration kPatience = absl::Seconds(30);
  using Done = std::function<void(absl::StatusOr<LoadedSource>)>;

  explicit Loader(EventLoop* loop) : loop_(loop), timer_(loop->NewTimer()) {}

  // Calls `done` when it is loaded, or why it cannot be. The one before must have ended.
  void Load(WhatToLoad what, Done done);

 private:
  class Loading;
  void Watch(const std::shared_ptr<Loading>& loading, uint64_t step, absl::Duration since);
  void End(absl::StatusOr<LoadedSource> loaded);

  EventLoop* const loop_;
  const std::unique_ptr<Timer> timer_;
  std::unique_ptr<WorkApart> work_;
  Done done_;
  std::string hanging_file_;  // the last that was given up
};

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_LOADER_H_
