#include "control/loader.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "control/config/config_values.h"
#include "control/config/files.h"
#include "control/may_hang.h"

namespace guideway {

// The part of the thread that may hang. `loaded` is its own until Run has returned.
class Loader::Loading {
 public:
  // `refused`: if not OK, no file is read, and this is said of each instead.
  Loading(WhatToLoad what, absl::Status refused)
      : what_(std::move(what)), refused_(std::move(refused)) {
    progress_.file = what_.name;
  }

  void Run() {
    Advance(false, "");
    const FileReader read = [this](const std::string& path) { return Read(path, ReadNamedFile); };
    if (what_.kept != nullptr) {
      loaded = LoadSource(*what_.kept);
      return;
    }
    if (what_.text) {
      loaded = LoadSource(what_.name, *std::exchange(what_.text, std::nullopt), what_.home, read);
      return;
    }
    absl::StatusOr<std::string> text = Read(what_.name, ReadConfigFile);
    if (!refused_.ok()) {
      text = absl::Status(refused_.code(), absl::StrCat("cannot read the configuration file ",
                                                        what_.name, ": ", refused_.message()));
    }
    loaded = text.ok() ? LoadSource(what_.name, *std::move(text), what_.name, read)
                       : absl::StatusOr<LoadedSource>(text.status());
  }

  // Where it is, from any thread.
  struct Progress {
    uint64_t step = 0;
    bool reads = true;  // true before it has begun
    std::string file;   // that is read
  };
  Progress progress() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return progress_;
  }

  absl::StatusOr<LoadedSource> loaded = absl::UnknownError("");

 private:
  absl::StatusOr<std::string> Read(const std::string& path, const FileReader& read) {
    if (!refused_.ok()) return refused_;
    Advance(true, path);
    absl::StatusOr<std::string> contents = read(path);
    Advance(false, "");
    return contents;
  }

  void Advance(bool reads, const std::string& file) {
    const std::lock_guard<std::mutex> lock(mutex_);
    progress_ = {progress_.step + 1, reads, file};
  }

  WhatToLoad what_;
  const absl::Status refused_;
  mutable std::mutex mutex_;
  Progress progress_;  // guarded by mutex_
};

void Loader::Load(WhatToLoad what, Done done) {
  absl::Status refused;
  if (const size_t hang = loop_->threads_apart(); hang >= kMaxThreadsApart) {
    refused = absl::DeadlineExceededError(
        absl::StrCat("it is not read while ", hang, " threads wait for files that do not answer",
                     hanging_file_.empty() ? "" : absl::StrCat(", the last for ", hanging_file_),
                     "; look after the disk or the file server that these are on"));
  }
  done_ = std::move(done);
  const auto loading = std::make_shared<Loading>(std::move(what), std::move(refused));
  work_ = loop_->RunApart([loading] { loading->Run(); },
                          [this, loading] { End(std::move(loading->loaded)); });
  Watch(loading, loading->progress().step, loop_->Now());
}

// Gives up what is in the same file for too long. What takes its time to be parsed ends.
void Loader::Watch(const std::shared_ptr<Loading>& loading, uint64_t step, absl::Duration since) {
  timer_->Set(loop_->Now() + kPatience / 10, [this, loading, step, since] {
    const Loading::Progress now = loading->progress();
    if (!now.reads || now.step != step) return Watch(loading, now.step, loop_->Now());
    if (loop_->Now() - since < kPatience) return Watch(loading, step, since);
    hanging_file_ = now.file;
    End(absl::DeadlineExceededError(absl::StrCat(
        "cannot read ", now.file, ": nothing has come of it for ", FormatConfigDuration(kPatience),
        "; look after the disk or the file server that it is on")));
  });
}

void Loader::End(absl::StatusOr<LoadedSource> loaded) {
  timer_->Cancel();
  work_.reset();
  const Done done = std::exchange(done_, nullptr);
  done(std::move(loaded));
}

}  // namespace guideway
