#include "control/loading.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace guideway {

Loading::Loading(What what, absl::Status refused)
    : what_(std::move(what)), refused_(std::move(refused)) {
  progress_.file = what_.name;
}

void Loading::Run() {
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

absl::StatusOr<std::string> Loading::Read(const std::string& path, const FileReader& read) {
  if (!refused_.ok()) return refused_;
  Advance(true, path);
  absl::StatusOr<std::string> contents = read(path);
  Advance(false, "");
  return contents;
}

void Loading::Advance(bool reads, const std::string& file) {
  const std::lock_guard<std::mutex> lock(mutex_);
  progress_ = {progress_.step + 1, reads, file};
}

Loading::Progress Loading::progress() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return progress_;
}

}  // namespace guideway
